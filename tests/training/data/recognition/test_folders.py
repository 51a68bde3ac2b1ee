"""Folders of faces, on small pictures made here."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimcam.training.data.recognition import folders, lfw
from slimcam.training.data.recognition.folders import FoldersConfig
from slimcam.training.data.recognition.lfw import LfwConfig


def test_folders_are_split_by_identity(people):
    data = folders.load(FoldersConfig(root=str(people), test_fraction=0.3, test_pairs=20))
    assert len(data.train.identities) == 7
    assert not set(data.train.identities) & set(data.test.identities)
    assert len(data.train) == 21
    assert data.notes == ()
    assert data.train.images[0].shape == (112, 112, 3)


def test_images_are_rgb(people):
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 2] = 255
    path = people / "person 0" / "red.png"
    cv2.imencode(".png", red)[1].tofile(path)
    np.testing.assert_array_equal(folders.read_image(path)[0, 0], [255, 0, 0])


def test_unreadable_files_and_empty_folders_are_listed_and_skipped(people):
    (people / "person 1" / "broken.jpg").write_bytes(b"not a picture")
    (people / "person 2" / "empty.png").write_bytes(b"")
    whole = (people / "person 3" / "0.png").read_bytes()
    (people / "person 3" / "cut.png").write_bytes(whole[:60])
    (people / "nobody").mkdir()
    (people / "person 4" / "notes.txt").write_text("no image")
    data = folders.load(FoldersConfig(root=str(people), test_pairs=6))
    assert len(data.train) + len(data.test) == 30
    notes = "\n".join(data.notes)
    assert all(name in notes for name in ("broken.jpg", "empty.png", "cut.png", "nobody: no image"))


@pytest.mark.usefixtures("people")
def test_several_folders_join_and_people_are_left_out_by_name(tmp_path, write_image):
    write_image(tmp_path / "more" / "person 0" / "x.jpg")
    write_image(tmp_path / "more" / "new" / "x.bmp")
    config = FoldersConfig(root=str(tmp_path), folders=["faces", "more"], exclude=["person 9"], test_pairs=6)
    data = folders.load(config)
    names = {*data.train.identities, *data.test.identities}
    assert "new" in names
    assert "person 9" not in names
    assert len(names) == 10


def test_too_few_identities_or_a_missing_folder_is_one_clear_line(tmp_path, write_image):
    write_image(tmp_path / "one" / "x.png")
    with pytest.raises(ValueError, match="at least 4 are needed, 2 to train on"):
        folders.load(FoldersConfig(root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="no folder"):
        folders.load(FoldersConfig(root=str(tmp_path / "none")))


def test_hidden_entries_are_nobody_and_links_that_lead_nowhere_are_listed(people):
    before = folders.fingerprint(FoldersConfig(root=str(people)))
    (people / ".cache" / "x").mkdir(parents=True)
    (people / "person 0" / "gone.jpg").symlink_to(people / "nothing.jpg")
    (people / "person 1" / "loop.jpg").symlink_to(people / "person 1" / "loop.jpg")
    (people / "person 2" / "folder.jpg").mkdir()
    data = folders.load(FoldersConfig(root=str(people)))
    assert ".cache" not in {*data.train.identities, *data.test.identities}
    notes = "\n".join(data.notes)
    assert all(f"{name}: a link that leads nowhere" in notes for name in ("gone.jpg", "loop.jpg"))
    assert "folder.jpg: a folder" in notes
    assert folders.fingerprint(FoldersConfig(root=str(people))) == before


def test_people_are_held_out_to_validate_by_and_the_test_stays_as_it_was(people):
    plain = folders.load(FoldersConfig(root=str(people), test_pairs=10))
    data = folders.load(FoldersConfig(root=str(people), test_pairs=10, held_out_fraction=0.3))
    (held_out,) = data.held_out
    assert plain.held_out == ()
    assert data.test.identities == plain.test.identities
    assert set(held_out.faces.identities) | set(data.train.identities) == set(plain.train.identities)
    assert not set(held_out.faces.identities) & set(data.train.identities)
    with pytest.raises(ValueError, match=r"lower data\.test_fraction or data.held_out_fraction"):
        folders.load(FoldersConfig(root=str(people), test_fraction=0.4, held_out_fraction=0.5))


def test_three_people_are_too_few_and_loose_images_are_no_people(tmp_path, write_image):
    for count in (1, 2, 3):
        write_image(tmp_path / f"person {count}" / "x.png")
        said = rf"{count} people .* at least 4 are needed, 2 to train on and 2 others to verify"
        with pytest.raises(ValueError, match=said):
            folders.load(FoldersConfig(root=str(tmp_path)))
    write_image(tmp_path / "flat" / "x.png")
    with pytest.raises(ValueError, match=r"1 images lie in .*flat itself: make one folder for each person, as .*NAME"):
        folders.load(FoldersConfig(root=str(tmp_path / "flat")))


def test_the_fingerprint_follows_content_and_not_place(people, tmp_path, write_image):
    before = folders.fingerprint(FoldersConfig(root=str(people)))
    moved = people.rename(tmp_path / "elsewhere")
    assert folders.fingerprint(FoldersConfig(root=str(moved))) == before
    write_image(moved / "person 0" / "0.png", seed=99)
    assert folders.fingerprint(FoldersConfig(root=str(moved))) != before


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_too_few_pairs_are_refused_before_anything_is_trained(people, pairs):
    with pytest.raises(ValueError, match="2 genuine and 2 impostor pairs"):
        folders.load(FoldersConfig(root=str(people), test_pairs=pairs))


def test_a_large_test_fraction_leaves_somebody_to_train_on(people):
    data = folders.load(FoldersConfig(root=str(people), test_fraction=0.99, test_pairs=20))
    assert len(data.train.identities) == 2


def test_the_fingerprint_follows_every_choice_among_the_files(people, small_lfw):
    one = FoldersConfig(root=str(people))
    others = [{"exclude": ["person 1"]}, {"seed": 5}, {"test_fraction": 0.5}]
    changed = {folders.fingerprint(FoldersConfig(root=str(people), **other)) for other in others}
    assert len(changed | {folders.fingerprint(one)}) == 4
    (people / "person 0" / ".DS_Store").write_text("not a face")
    assert folders.fingerprint(one) not in changed
    assert lfw.fingerprint(LfwConfig(root=str(small_lfw))) != lfw.fingerprint(
        LfwConfig(root=str(small_lfw), exclude=["Ann_A"])
    )
