"""Verification packs: read back as written, as other tools write them, and never run."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from slimcam.training.data.recognition import verification_pack
from slimcam.training.data.recognition.faces import UNLABELED

PAIRS = 40


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    images = np.random.default_rng(0).integers(0, 256, (2 * PAIRS, 112, 112, 3)).astype(np.uint8)
    return [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]


SAME = np.arange(PAIRS) % 4 < 2


def test_a_pack_is_read_as_it_was_written(encoded, tmp_path):
    verification_pack.write(tmp_path / "lfw.bin", encoded, SAME)
    found = verification_pack.read(tmp_path / "lfw.bin")
    assert found.source == "lfw"
    np.testing.assert_array_equal(found.pairs.same, SAME)
    np.testing.assert_array_equal(found.pairs.left, np.arange(0, 2 * PAIRS, 2))
    np.testing.assert_array_equal(found.pairs.right, np.arange(1, 2 * PAIRS, 2))
    assert np.bincount(found.pairs.fold).tolist() == [PAIRS // 10] * 10
    assert set(found.faces.labels) == {UNLABELED}
    for index in (0, 7, 2 * PAIRS - 1):
        expected = cv2.imdecode(np.frombuffer(encoded[index], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(found.faces.images[index], expected)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_packs_of_arrays_and_of_older_protocols_are_read(encoded, tmp_path, protocol):
    arrays = [np.frombuffer(image, np.uint8) for image in encoded]
    (tmp_path / "old.bin").write_bytes(pickle.dumps((arrays, list(SAME)), protocol))
    found = verification_pack.read(tmp_path / "old.bin")
    np.testing.assert_array_equal(found.pairs.same, SAME)
    assert found.faces.images[3].shape == (112, 112, 3)


class Thief:
    def __reduce__(self):
        return eval, ("open('stolen', 'w')",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(([Thief()], [True])))
    with pytest.raises(ValueError, match=r"bad.bin: it asks for builtins.eval; .* was not run"):
        verification_pack.read(tmp_path / "bad.bin")
    assert not (tmp_path / "stolen").exists()


def test_a_truncated_or_other_file_is_refused(encoded, tmp_path):
    verification_pack.write(tmp_path / "whole.bin", encoded, SAME)
    content = (tmp_path / "whole.bin").read_bytes()
    for name, part in {"half": content[: len(content) // 2], "text": b"no pickle", "empty": b""}.items():
        (tmp_path / f"{name}.bin").write_bytes(part)
        with pytest.raises(ValueError, match=f"{name}.bin: not a whole verification pack"):
            verification_pack.read(tmp_path / f"{name}.bin")
    (tmp_path / "odd.bin").write_bytes(pickle.dumps((encoded[:-1], list(SAME))))
    with pytest.raises(ValueError, match="expected two images for each pair"):
        verification_pack.read(tmp_path / "odd.bin")
    with pytest.raises(ValueError, match="two images for each pair are needed"):
        verification_pack.write(tmp_path / "new.bin", encoded[:-1], SAME)
