"""Faces without names beside a labeled source."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from slimcam.training.data.recognition import packed
from slimcam.training.data.recognition.faces import UNLABELED
from slimcam.training.data.recognition.folders import FoldersConfig
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.data.sources import fingerprint, load


def test_unlabeled_faces_of_folders_and_packed_files_stand_behind_the_labeled(people, small_lfw, tmp_path, write_image):
    for place in ("crops/a.png", "crops/deep/er/b.jpg", "crops/deep/c.png"):
        write_image(tmp_path / place, seed=7)
    (tmp_path / "crops" / "deep").rename(tmp_path / "deep")
    (tmp_path / "crops" / "deep").symlink_to(tmp_path / "deep")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path / "crops")
    (tmp_path / "crops" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "crops" / "notes.txt").write_text("no image either")
    names = FoldersConfig(root=str(people), test_fraction=0.3, test_pairs=20)
    packed.write(tmp_path / "faces.npz", load(names, tmp_path), {}, "the names")
    config = LfwConfig(root=str(small_lfw), unlabeled=["crops", str(tmp_path / "faces.npz")])
    data = load(config, tmp_path)
    np.testing.assert_array_equal(data.train.labels, [0, 0, 1, 1] + [UNLABELED] * (3 + 21))
    assert data.train.unlabeled == 24
    np.testing.assert_array_equal(data.train.images[4], cv2.imread(str(tmp_path / "crops" / "a.png"))[..., ::-1])
    np.testing.assert_array_equal(data.train.images[7], load(names, tmp_path).train.images[0])
    assert data.notes == (f"skipped {tmp_path / 'crops' / 'broken.jpg'}: not a readable image",)
    with pytest.raises(FileNotFoundError, match=r"data\.unlabeled: no folder or file"):
        load(replace(config, unlabeled=["none"]), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no readable image in"):
        load(replace(config, unlabeled=["empty"]), tmp_path)


def test_a_fingerprint_covers_what_unlabeled_faces_there_are_but_not_where(small_lfw, tmp_path, write_image):
    write_image(tmp_path / "crops" / "a.png", seed=7)
    with_crops = LfwConfig(root=str(small_lfw), unlabeled=["crops"])
    before = fingerprint(with_crops)
    assert before != fingerprint(LfwConfig(root=str(small_lfw)))
    (tmp_path / "crops").rename(tmp_path / "moved")
    assert fingerprint(replace(with_crops, unlabeled=["moved"])) == before
    write_image(tmp_path / "moved" / "a.png", seed=8)
    assert fingerprint(replace(with_crops, unlabeled=["moved"])) != before
