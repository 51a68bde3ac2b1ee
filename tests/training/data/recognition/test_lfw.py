"""LFW lists, on small pictures made here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slimcam.training.data.recognition import lfw
from slimcam.training.data.recognition.lfw import LfwConfig


def test_lfw_trains_on_the_listed_people_and_tests_on_the_pairs(small_lfw):
    data = lfw.load(LfwConfig(root=str(small_lfw)))
    assert data.train.identities == ("Ann_A", "Bob_B")
    assert data.test.identities == ("Cy_C", "Di_D")
    np.testing.assert_array_equal(data.pairs.same, [True, True, False, False])
    same = data.test.labels[data.pairs.left] == data.test.labels[data.pairs.right]
    np.testing.assert_array_equal(same, data.pairs.same)


def test_lfw_leaves_out_suspects_and_excluded_people(small_lfw, write_image):
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


def test_people_held_out_are_not_trained_on_and_have_pairs_of_their_own(small_lfw, write_image):
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


def test_lfw_refuses_to_train_on_tested_people_whatever_the_spelling(small_lfw, write_image):
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


def test_data_without_training_images_or_pairs_is_refused(small_lfw):
    (small_lfw / "lfw112" / "peopleDevTrain.txt").write_text("1\nNobody\t2\n")
    with pytest.raises(ValueError, match="0 images to train on"):
        lfw.load(LfwConfig(root=str(small_lfw)))
    (small_lfw / "lfw112" / "pairsDevTest.txt").write_text("")
    with pytest.raises(ValueError, match="0 verification pairs"):
        lfw.load(LfwConfig(root=str(small_lfw)))


def test_a_held_out_folder_is_a_verification_set_of_its_own_and_comes_first(small_lfw, write_image):
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
