"""One folder for each class: its splits, and what lies about in real folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.training.data.classification.image_folders import ImageFoldersConfig, fingerprint, load


def write(path: Path, value: int = 100, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def fill(folder: Path, classes: str = "ab", count: int = 5) -> None:
    for number, name in enumerate(classes):
        for index in range(count):
            write(folder / name / f"{index}.png", 50 * number + index)


def test_folders_to_train_on_and_to_evaluate_on_are_taken_as_they_are(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", count=2)
    data = load(ImageFoldersConfig(root=str(tmp_path)))
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.test), data.held_out) == (10, 4, None)
    assert data.train.images[0].shape == (20, 20, 3)


def test_without_them_a_share_of_each_class_is_held_out(tmp_path):
    fill(tmp_path, count=10)
    data = load(ImageFoldersConfig(root=str(tmp_path), test_fraction=0.3, held_out_fraction=0.2))
    assert data.held_out is not None
    parts = (data.train, data.test, data.held_out)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[6, 6], [3, 3], [1, 1]]
    files = [path for part in parts for path in part.images.paths]
    assert len(set(files)) == 20


def test_the_fingerprint_is_that_of_the_content_wherever_it_lies(tmp_path):
    for place in ("here", "there"):
        fill(tmp_path / place)
    here, there = (ImageFoldersConfig(root=str(tmp_path / place)) for place in ("here", "there"))
    assert fingerprint(here) == fingerprint(there)
    write(tmp_path / "there/a/0.png", 9)
    assert fingerprint(here) != fingerprint(there)


def test_what_lies_about_is_listed_and_skipped(tmp_path):
    fill(tmp_path, count=3)
    (tmp_path / "a/broken.jpg").write_bytes(b"no image")
    (tmp_path / "a/dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "a/loop.jpg").symlink_to(tmp_path / "a/loop.jpg")
    (tmp_path / "b/folder.jpg").mkdir()
    (tmp_path / "b/.hidden.jpg").write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    config = ImageFoldersConfig(root=str(tmp_path))
    data = load(config)
    assert fingerprint(config)
    assert data.classes == ("a", "b")
    notes = sorted(note.removeprefix(f"skipped {tmp_path}/") for note in data.notes)
    assert notes == [
        "a/broken.jpg: not a readable image",
        "a/dangling.jpg: a link that leads nowhere",
        "a/loop.jpg: a link that leads nowhere",
        "b/folder.jpg: a folder",
    ]


def test_a_layout_that_does_not_serve_says_what_would(tmp_path):
    write(tmp_path / "flat/one.png")
    with pytest.raises(ValueError, match=r"0 classes .* 1 images lie in .*flat itself: make one folder for each class"):
        load(ImageFoldersConfig(root=str(tmp_path / "flat")))
    fill(tmp_path / "half/train")
    with pytest.raises(FileNotFoundError, match=r"there is .*train, but no val beside it"):
        load(ImageFoldersConfig(root=str(tmp_path / "half")))
    fill(tmp_path / "more/train")
    fill(tmp_path / "more/val", "abc")
    with pytest.raises(ValueError, match=r"c in val, but without an image in train"):
        load(ImageFoldersConfig(root=str(tmp_path / "more")))
    fill(tmp_path / "single", count=1)
    with pytest.raises(ValueError, match=r"1 readable image of a; at least 2 are needed"):
        load(ImageFoldersConfig(root=str(tmp_path / "single")))
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(ImageFoldersConfig(root=str(tmp_path / "nowhere")))
