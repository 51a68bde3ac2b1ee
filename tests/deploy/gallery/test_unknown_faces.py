from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.gallery.unknown_faces import UnknownFaces, grouped

MODEL = "a" * 64


def crop(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8)


def direction(seed: int, near: int | None = None) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(128)
    if near is not None:
        vector = 0.3 * vector + 2 * np.random.default_rng(near).standard_normal(128)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def opened(tmp_path: Path, days: float = 7, limit: int = 10, model: str = MODEL) -> UnknownFaces:
    return UnknownFaces(tmp_path / "data/unknown", tmp_path / "key/gallery.key", model, days, limit)


def test_a_face_comes_back_as_it_was_kept_and_nobody_else_reads_it(tmp_path: Path) -> None:
    faces = opened(tmp_path)
    assert not (tmp_path / "data").exists()  # nothing is made before there is something to keep
    id = faces.keep(1.7e9, direction(1), crop(1))
    (face,) = opened(tmp_path).faces()
    assert (face.id, face.at) == (id, 1.7e9)
    np.testing.assert_array_equal(face.embedding, direction(1))
    np.testing.assert_array_equal(face.crop, crop(1))
    (file,) = (tmp_path / "data/unknown").iterdir()
    content = file.read_bytes()
    assert b"PNG" not in content
    assert direction(1).tobytes()[:64] not in content
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_faces_expire_and_the_oldest_make_way(tmp_path: Path) -> None:
    faces = opened(tmp_path, limit=3)
    ids = []
    for number in range(5):
        ids.append(faces.keep(float(number), direction(number), crop(number)))
        path = tmp_path / f"data/unknown/{ids[-1]}.face"
        os.utime(path, (time.time() - 1000 + number, time.time() - 1000 + number))
        faces.tidy()
    assert [face.id for face in faces.faces()] == ids[:1:-1]
    os.utime(tmp_path / f"data/unknown/{ids[3]}.face", (0, time.time() - 8 * 86400))
    assert [face.id for face in faces.faces()] == [ids[4], ids[2]]
    assert len(list((tmp_path / "data/unknown").iterdir())) == 2


def test_what_was_altered_moved_or_is_another_models_is_no_face(tmp_path: Path) -> None:
    faces = opened(tmp_path)
    ids = [faces.keep(float(number), direction(number), crop(number)) for number in range(3)]
    folder = tmp_path / "data/unknown"
    altered = bytearray((folder / f"{ids[0]}.face").read_bytes())
    altered[40] ^= 1
    (folder / f"{ids[0]}.face").write_bytes(altered)
    (folder / f"{ids[1]}.face").rename(folder / f"{'0' * 32}.face")
    assert [face.id for face in faces.faces()] == [ids[2]]
    assert opened(tmp_path, model="b" * 64).faces() == []
    assert list(folder.iterdir()) == []


def test_taking_and_removing_is_by_id(tmp_path: Path) -> None:
    faces = opened(tmp_path)
    first, second = (faces.keep(float(number), direction(number), crop(number)) for number in range(2))
    assert [face.id for face in faces.take([second, first])] == [second, first]
    faces.remove([first, "../../key/gallery", "f" * 32])
    assert (tmp_path / "key/gallery.key").exists()
    with pytest.raises(ValueError, match="1 of these faces are not kept any more"):
        faces.take([first, second])


def test_faces_are_grouped_by_likeness(tmp_path: Path) -> None:
    faces = opened(tmp_path)
    for number, (seed, near) in enumerate([(1, 100), (2, 200), (3, 100), (4, 300), (5, 200)]):
        faces.keep(float(number), direction(seed, near), crop(seed))
    groups = grouped(faces.faces(), 0.6)
    assert [[face.at for face in group] for group in groups] == [[4, 1], [3], [2, 0]]
    assert grouped([], 0.6) == []
