"""Files are read once, and again when they have changed; what was found is the same with and without an index."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from slimcam.training.data.recognition import file_index, folders
from slimcam.training.data.recognition.file_index import contents_of
from slimcam.training.data.recognition.folders import FoldersConfig


@pytest.fixture
def reads(people, tmp_path, monkeypatch):
    """The files that are read from now on; those of `people` are old enough for their times to count."""
    monkeypatch.setenv("SLIMCAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_index, "LEAST_FILES", 2)
    (people / "person 1/broken.jpg").write_bytes(b"no picture")
    for path in people.glob("*/*"):
        os.utime(path, (1e9, 1e9))
    seen = []
    original = file_index.read_bytes
    monkeypatch.setattr(file_index, "read_bytes", lambda path: seen.append(path) or original(path))
    return seen


def files_of(people):
    return sorted(people.glob("*/*"))


def test_nothing_is_read_a_second_time(people, reads):
    files = files_of(people)
    first = contents_of(people, files)
    assert sorted(reads) == files
    reads.clear()
    second = contents_of(people, files)
    assert reads == []
    np.testing.assert_array_equal(first.readable, second.readable)
    np.testing.assert_array_equal(first.digests, second.digests)
    assert [path.name for path, whole in zip(files, first.readable, strict=True) if not whole] == ["broken.jpg"]
    assert first.digests[3].tobytes() == hashlib.sha256(files[3].read_bytes()).digest()


def test_new_and_changed_files_are_read(people, reads, write_image):
    contents_of(people, files_of(people))
    reads.clear()
    write_image(people / "person 2" / "0.png", seed=77)
    write_image(people / "person 2" / "new.png", seed=78)
    (people / "person 3/0.png").unlink()
    found = contents_of(people, files_of(people))
    assert sorted(path.name for path in reads) == ["0.png", "new.png"]
    for path, digest in zip(files_of(people), found.digests, strict=True):
        assert digest.tobytes() == hashlib.sha256(path.read_bytes()).digest()
    # Written a moment ago: they might have changed again without their time telling.
    reads.clear()
    contents_of(people, files_of(people))
    assert sorted(path.name for path in reads) == ["0.png", "new.png"]


def test_a_part_of_a_folder_does_not_make_the_index_forget_the_rest(people, reads):
    files = files_of(people)
    contents_of(people, files)
    os.utime(files[0], (2e9, 1.1e9))
    contents_of(people, files[:5])
    reads.clear()
    contents_of(people, files)
    assert reads == []


def test_a_damaged_index_is_made_again(people, reads, tmp_path):
    files = files_of(people)
    contents_of(people, files)
    (index,) = (tmp_path / "cache/files").iterdir()
    whole = index.read_bytes()
    for content in (whole[: len(whole) // 2], b"no index"):
        index.write_bytes(content)
        reads.clear()
        contents_of(people, files)
        assert len(reads) == len(files)


@pytest.mark.usefixtures("reads")
def test_an_index_that_cannot_be_kept_is_said_and_does_without(people, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert contents_of(people, files_of(people)).readable.sum() == 30
    assert "the next start reads all files again" in caplog.text


def test_sets_and_fingerprints_are_the_same_with_an_index(people, reads, monkeypatch):
    config = FoldersConfig(root=str(people), test_pairs=6)
    for _ in range(2):
        data, fingerprint = folders.load(config), folders.fingerprint(config)
    assert len(reads) == 31
    monkeypatch.setattr(file_index, "LEAST_FILES", 10**9)
    plain = folders.load(config)
    assert folders.fingerprint(config) == fingerprint
    assert plain.notes == data.notes
    np.testing.assert_array_equal(plain.train.labels, data.train.labels)
