"""Folders, LFW lists, augmentation and batches, on small pictures made here."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from training.data.images import normalize
from training.data.recognition import folders, lfw, packed
from training.data.recognition.augment import AugmentConfig, augment, bend, blend
from training.data.recognition.batches import Batches
from training.data.recognition.faces import UNLABELED, FaceSet
from training.data.recognition.folders import FoldersConfig
from training.data.recognition.lfw import LfwConfig
from training.data.recognition.teacher_targets import Lesson
from training.data.sources import fingerprint, load


def write_image(path, seed=0, size=112):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size=(size, size, 3), dtype=np.uint8)
    cv2.imencode(path.suffix, pixels)[1].tofile(path)
    return pixels


@pytest.fixture
def people(tmp_path):
    for person in range(10):
        for number in range(3):
            write_image(tmp_path / "faces" / f"person {person}" / f"{number}.png", seed=10 * person + number)
    return tmp_path / "faces"


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
def test_several_folders_join_and_people_are_left_out_by_name(tmp_path):
    write_image(tmp_path / "more" / "person 0" / "x.jpg")
    write_image(tmp_path / "more" / "new" / "x.bmp")
    config = FoldersConfig(root=str(tmp_path), folders=["faces", "more"], exclude=["person 9"], test_pairs=6)
    data = folders.load(config)
    names = {*data.train.identities, *data.test.identities}
    assert "new" in names
    assert "person 9" not in names
    assert len(names) == 10


def test_too_few_identities_or_a_missing_folder_is_one_clear_line(tmp_path):
    write_image(tmp_path / "one" / "x.png")
    with pytest.raises(ValueError, match="give at least 3"):
        folders.load(FoldersConfig(root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="no folder"):
        folders.load(FoldersConfig(root=str(tmp_path / "none")))


def test_the_fingerprint_follows_content_and_not_place(people, tmp_path):
    before = folders.fingerprint(FoldersConfig(root=str(people)))
    moved = people.rename(tmp_path / "elsewhere")
    assert folders.fingerprint(FoldersConfig(root=str(moved))) == before
    write_image(moved / "person 0" / "0.png", seed=99)
    assert folders.fingerprint(FoldersConfig(root=str(moved))) != before


@pytest.fixture
def small_lfw(tmp_path):
    for name in ("Ann_A", "Bob_B", "Cy_C", "Di_D"):
        for number in (1, 2):
            write_image(tmp_path / "lfw112" / "images" / name / f"{name}_{number:04d}.jpg", seed=number)
    (tmp_path / "lfw112" / "peopleDevTrain.txt").write_text("2\nAnn_A\t2\nBob_B\t2\n")
    (tmp_path / "lfw112" / "pairsDevTest.txt").write_text(
        "Cy_C\t1\t2\nDi_D\t1\t2\nCy_C\t1\tDi_D\t1\nCy_C\t2\tDi_D\t2\n"
    )
    return tmp_path


def test_lfw_trains_on_the_listed_people_and_tests_on_the_pairs(small_lfw):
    data = lfw.load(LfwConfig(root=str(small_lfw)))
    assert data.train.identities == ("Ann_A", "Bob_B")
    assert data.test.identities == ("Cy_C", "Di_D")
    np.testing.assert_array_equal(data.pairs.same, [True, True, False, False])
    same = data.test.labels[data.pairs.left] == data.test.labels[data.pairs.right]
    np.testing.assert_array_equal(same, data.pairs.same)


def test_lfw_leaves_out_suspects_and_excluded_people(small_lfw):
    for number in range(3):
        write_image(small_lfw / "pins112" / "images" / "Eve E" / f"{number}.jpg")
        write_image(small_lfw / "pins112" / "images" / "Flo F" / f"{number}.jpg")
    (small_lfw / "pins112" / "suspects.csv").write_text('path,cos\n"Eve E/1.jpg",0.1\n')
    config = LfwConfig(
        root=str(small_lfw), extra=["pins112/images"], exclude=["Flo F"], suspects=["pins112/suspects.csv"]
    )
    data = lfw.load(config)
    assert "Flo F" not in data.train.identities
    assert np.sum(data.train.labels == data.train.identities.index("Eve E")) == 2


def test_people_held_out_are_not_trained_on_and_have_pairs_of_their_own(small_lfw):
    for person in ("Eve E", "Flo F", "Gil G"):
        for number in range(4):
            write_image(small_lfw / "pins112" / "images" / person / f"{number}.jpg")
    options = {"root": str(small_lfw), "extra": ["pins112/images"]}
    data = lfw.load(LfwConfig(held_out=2, held_out_pairs=8, **options))
    (held,) = data.held_out
    assert held is not None
    assert set(held.faces.identities) | set(data.train.identities) == {"Ann_A", "Bob_B", "Eve E", "Flo F", "Gil G"}
    assert not set(held.faces.identities) & set(data.train.identities)
    same = held.faces.labels[held.pairs.left] == held.faces.labels[held.pairs.right]
    np.testing.assert_array_equal(same, held.pairs.same)
    assert lfw.load(LfwConfig(**options)).held_out == ()
    with pytest.raises(ValueError, match=r"data\.held_out is 3, but data\.extra has 3 people"):
        lfw.load(LfwConfig(held_out=3, **options))


def test_lfw_refuses_to_train_on_tested_people_whatever_the_spelling(small_lfw):
    write_image(small_lfw / "pins112" / "images" / "Cy C" / "1.jpg")
    with pytest.raises(ValueError, match=r"also trained on, for example Cy_C; leave them out with data\.exclude"):
        lfw.load(LfwConfig(root=str(small_lfw), extra=["pins112/images"]))


def test_lfw_names_a_pair_whose_image_is_missing(small_lfw):
    (small_lfw / "lfw112" / "images" / "Cy_C" / "Cy_C_0002.jpg").unlink()
    with pytest.raises(ValueError, match="Cy_C_0002"):
        lfw.load(LfwConfig(root=str(small_lfw)))


def test_view_2_lists_keep_their_folds(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nA\t1\t2\nA\t1\tB\t1\nC\t1\t2\nC\t1\tD\t1\n")
    rows = lfw.read_pairs(path)
    assert [row[3] for row in rows] == [0, 0, 1, 1]
    assert [row[2] for row in rows] == [True, False, True, False]


def test_a_list_that_is_not_one_is_refused(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("A\tone\ttwo\n")
    with pytest.raises(ValueError, match="not an LFW list of pairs"):
        lfw.read_pairs(path)


def faces(count=20):
    images = np.random.default_rng(0).integers(0, 255, size=(count, 112, 112, 3), dtype=np.uint8)
    return FaceSet(images, np.arange(count, dtype=np.int32) % 4, tuple("abcd"))


def test_augmentation_follows_its_seed_and_keeps_the_shape():
    image = faces().images[0]
    one, again, other = (augment(image, AugmentConfig(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    assert np.any(one != other)


def test_augmentation_of_nothing_changes_nothing():
    still = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
    image = faces().images[0]
    np.testing.assert_allclose(augment(image, still, np.random.default_rng(0)), image, atol=1)


def test_a_certain_flip_mirrors_the_face():
    mirrored = AugmentConfig(1.0, 0, 0, 0, 0, 0, 0, 0, 0)
    image = faces().images[0]
    np.testing.assert_allclose(augment(image, mirrored, np.random.default_rng(0)), image[:, ::-1], atol=1)


def test_batches_are_the_same_for_any_number_of_workers_and_from_any_start():
    def first(workers, start, count):
        batches = Batches(faces(), 6, AugmentConfig(mix=0.3), seed=3, workers=workers)
        stream = batches.stream([112] * 10, start)
        found = [next(stream) for _ in range(count)]
        stream.close()
        return found

    one, many, later = first(1, 0, 6), first(4, 0, 6), first(3, 2, 4)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    for a, b in zip(one[2:], later, strict=True):
        np.testing.assert_array_equal(a.images, b.images)


@pytest.mark.parametrize("augment", [AugmentConfig(mix=0.5), AugmentConfig(bend=0.5)])
def test_a_view_that_is_mixed_or_bent_is_nobodys(augment):
    changed, plain = (Batches(faces(), 40, config, seed=0).batch(0, 112) for config in (augment, AugmentConfig()))
    own = (changed.images == plain.images).all(axis=(1, 2, 3))
    assert 5 < own.sum() < 35
    np.testing.assert_array_equal(changed.labels, np.where(own, plain.labels, UNLABELED))


def test_an_epoch_shows_every_image_once_even_across_a_batch_border():
    batches = Batches(faces(20), 6, None, seed=0)
    seen = np.concatenate([batches.batch(step, 56).indices for step in range(10)])
    for epoch in range(3):
        assert sorted(seen[20 * epoch : 20 * (epoch + 1)]) == list(range(20))
    assert batches.batch(0, 56).images.shape == (6, 56, 56, 3)


def test_a_stream_ends_after_its_last_step_and_gives_each_step_its_size():
    sizes = [batch.images.shape[1] for batch in Batches(faces(), 6, None, seed=0).stream([32, 32, 48, 112])]
    assert sizes == [32, 32, 48, 112]


def test_views_of_a_face_come_again_after_their_number_and_not_before():
    class Counted:
        views = 2
        channels = 0

        def __call__(self, indices, variants, images):
            seen.extend(zip(indices.tolist(), variants.tolist(), [image.tobytes() for image in images], strict=True))
            return Lesson(np.zeros((len(indices), 4), np.float32))

    seen = []
    batches = Batches(faces(20), 5, AugmentConfig(mix=0.5, bend=0.5), seed=0, targets=Counted())
    for step in range(16):
        batches.batch(step, 112)
    views = {}
    for index, variant, image in seen:
        views.setdefault((index, variant), set()).add(image)
    assert len(views) == 40
    assert all(len(images) == 1 for images in views.values())
    assert len({image for images in views.values() for image in images}) == 40


def test_a_blend_shows_both_faces():
    black, white = np.zeros((112, 112, 3), np.uint8), np.full((112, 112, 3), 200, np.uint8)
    shares = [blend(black, white, np.random.default_rng(seed)).mean() / 200 for seed in range(50)]
    assert min(shares) >= 0.1
    assert max(shares) <= 0.9
    assert max(shares) - min(shares) > 0.3


def test_what_is_bent_stays_in_its_place_by_a_few_pixels():
    ramp = np.broadcast_to(np.arange(112, dtype=np.uint8)[None, :, None], (112, 112, 3)).copy()
    moves = np.stack([bend(ramp, np.random.default_rng(seed)) for seed in range(20)]).astype(int) - ramp
    assert 1 < np.abs(moves).max() < 20
    assert np.abs(np.diff(moves[:, :, 20:90, 0], axis=2)).max() <= 3


def test_balance_draws_people_with_few_images_as_often():
    few, many = 10, 190
    labels = np.repeat(np.arange(11, dtype=np.int32), [1] * few + [many])
    unbalanced, balanced = FaceSet(np.zeros((len(labels), 112, 112, 3), np.uint8), labels, tuple("abcdefghijk")), []
    batches = Batches(unbalanced, 50, None, seed=0, balance=1.0)
    for step in range(40):
        balanced.extend(labels[batches.batch(step, 16).indices])
    share = np.mean(np.array(balanced) == 10)
    assert share == pytest.approx(1 / 11, abs=0.02)
    repeated = Batches(unbalanced, 50, None, seed=0, balance=1.0).batch(7, 16)
    np.testing.assert_array_equal(repeated.indices, batches.batch(7, 16).indices)


def test_pixels_are_normalised_so_that_int8_is_exact():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(normalize(pixels) * 128, pixels.astype(np.float32) - 128)


def test_data_without_training_images_or_pairs_is_refused(small_lfw):
    (small_lfw / "lfw112" / "peopleDevTrain.txt").write_text("1\nNobody\t2\n")
    with pytest.raises(ValueError, match="0 images to train on"):
        lfw.load(LfwConfig(root=str(small_lfw)))
    (small_lfw / "lfw112" / "pairsDevTest.txt").write_text("")
    with pytest.raises(ValueError, match="0 verification pairs"):
        lfw.load(LfwConfig(root=str(small_lfw)))


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_too_few_pairs_are_refused_before_anything_is_trained(people, pairs):
    with pytest.raises(ValueError, match="2 genuine and 2 impostor pairs"):
        folders.load(FoldersConfig(root=str(people), test_pairs=pairs))


def test_a_large_test_fraction_leaves_somebody_to_train_on(people):
    data = folders.load(FoldersConfig(root=str(people), test_fraction=0.99, test_pairs=20))
    assert len(data.train.identities) == 1


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


def test_unlabeled_faces_of_folders_and_packed_files_stand_behind_the_labeled(people, small_lfw, tmp_path):
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


def test_a_fingerprint_covers_what_unlabeled_faces_there_are_but_not_where(small_lfw, tmp_path):
    write_image(tmp_path / "crops" / "a.png", seed=7)
    with_crops = LfwConfig(root=str(small_lfw), unlabeled=["crops"])
    before = fingerprint(with_crops)
    assert before != fingerprint(LfwConfig(root=str(small_lfw)))
    (tmp_path / "crops").rename(tmp_path / "moved")
    assert fingerprint(replace(with_crops, unlabeled=["moved"])) == before
    write_image(tmp_path / "moved" / "a.png", seed=8)
    assert fingerprint(replace(with_crops, unlabeled=["moved"])) != before


def test_an_unlabeled_face_is_drawn_as_often_as_one_whose_person_has_no_other():
    labels = np.array([0] * 9 + [UNLABELED] * 3, np.int32)
    batches = Batches(FaceSet(np.zeros((12, 112, 112, 3), np.uint8), labels, ("a",)), 12, None, 0, balance=1.0)
    drawn = np.concatenate([batches._places(step)[0] for step in range(200)])
    assert np.mean(drawn >= 9) == pytest.approx(3 / 4, abs=0.02)


def test_a_held_out_folder_is_a_verification_set_of_its_own_and_comes_first(small_lfw):
    for person in ("F1", "F2", "F3"):
        for number in range(4):
            write_image(small_lfw / "families" / person / f"{number}.jpg")
            write_image(small_lfw / "pins112" / "images" / f"Eve {person}" / f"{number}.jpg")
    config = LfwConfig(
        root=str(small_lfw), extra=["pins112/images"], held_out=2, held_out_folder="families", held_out_pairs=8
    )
    families, people = lfw.load(config).held_out
    assert (families.source, people.source) == ("families", None)
    assert len(np.unique(families.faces.labels)) == 3
    assert lfw.fingerprint(config) != lfw.fingerprint(replace(config, held_out_folder=None))
