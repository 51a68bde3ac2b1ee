"""Rendered faces: deterministic, aligned, cached, and a fair test of a recognizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from slimcam.training.data.drawing.canvas import ARCFACE, SCALE, View
from slimcam.training.data.drawing.portrait import draw
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.data.recognition.synthetic import SyntheticConfig, draw_face, fingerprint, load


def tiny(**changes: int) -> SyntheticConfig:
    config = SyntheticConfig(
        identities=3,
        images_per_identity=2,
        test_identities=3,
        test_images_per_identity=3,
        test_pairs=6,
        workers=1,
    )
    return replace(config, **changes)


def test_a_face_is_an_aligned_crop_decided_by_its_two_seeds() -> None:
    face = draw_face(3, 5)
    assert face.shape == (112, 112, 3)
    assert face.dtype == np.uint8
    np.testing.assert_array_equal(face, draw_face(3, 5))
    assert not np.array_equal(face, draw_face(3, 6))
    assert not np.array_equal(face, draw_face(4, 5))


@pytest.mark.parametrize("seeds", [(-1, 0), (0, -1)])
def test_a_negative_seed_is_refused(seeds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        draw_face(*seeds)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.5, 0.0), (-0.5, 0.3)])
def test_features_lie_on_the_arcface_template_whatever_the_pose(yaw: float, pitch: float) -> None:
    for seed in range(20):
        person = sample_person(seed)
        shot = replace(sample_shot(seed, 0), yaw=yaw, pitch=pitch, smile=0.0, mouth_open=0.0, jitter=(0, 0, 0, 0))
        eyes = np.array([(-person.eye_x, person.eye_y), (person.eye_x, person.eye_y)])
        placed = (View(person, shot).place(eyes) + 0.5) / SCALE - 0.5
        off = np.hypot(*(placed - np.column_stack([ARCFACE.real, ARCFACE.imag])[:2]).T)
        assert off.max() < (3.5 if yaw == 0 else 9)


def test_people_differ_under_the_very_same_conditions() -> None:
    shot = replace(sample_shot(0, 0), glasses="none", occluder="none", hat=False)
    faces = [draw(sample_person(seed), shot).astype(int) for seed in range(12)]
    differences = [np.abs(a - b).mean() for i, a in enumerate(faces) for b in faces[:i]]
    assert min(differences) > 4


def test_pixels_alone_hardly_verify_anyone() -> None:
    faces = np.stack([draw_face(person, image) for person in range(40) for image in range(4)])
    pixels = faces.reshape(len(faces), -1).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    pairs = sample_pairs(np.repeat(np.arange(40, dtype=np.int32), 4), 400)
    similarity = (pixels[pairs.left] * pixels[pairs.right]).sum(axis=1)
    best = max(float(np.mean((similarity >= threshold) == pairs.same)) for threshold in similarity)
    assert best < 0.70


def test_faces_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    alone = load(tiny(workers=1), tmp_path / "one")
    shared = load(tiny(workers=2), tmp_path / "two")
    np.testing.assert_array_equal(alone.train.images[:], shared.train.images[:])
    np.testing.assert_array_equal(alone.test.images[:], shared.test.images[:])


def test_labels_name_who_is_drawn(tmp_path: Path) -> None:
    data = load(tiny(), tmp_path)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert not set(data.train.identities) & set(data.test.identities)
    assert len(data.pairs) == 6
    np.testing.assert_array_equal(
        data.pairs.same, data.test.labels[data.pairs.left] == data.test.labels[data.pairs.right]
    )
    np.testing.assert_array_equal(data.train.images[3], draw_face(1, 1))


def test_test_people_are_others_and_stay_when_the_training_set_grows(tmp_path: Path) -> None:
    small, large = load(tiny(), tmp_path), load(tiny(identities=4), tmp_path)
    np.testing.assert_array_equal(small.test.images[:], large.test.images[:])
    np.testing.assert_array_equal(small.train.images[:], large.train.images[:6])
    assert not np.array_equal(small.train.images[0], small.test.images[0])


def test_another_seed_draws_other_people(tmp_path: Path) -> None:
    assert not np.array_equal(load(tiny(), tmp_path).train.images[0], load(tiny(seed=1), tmp_path).train.images[0])


def test_a_second_load_maps_what_the_first_has_drawn(tmp_path: Path) -> None:
    first = load(tiny(), tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = load(tiny(test_pairs=4), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written
    assert isinstance(second.train.images, np.memmap)
    np.testing.assert_array_equal(first.train.images[:], second.train.images[:])


def test_a_damaged_cache_is_drawn_anew(tmp_path: Path) -> None:
    expected = np.array(load(tiny(), tmp_path).train.images)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:5000])
    np.testing.assert_array_equal(load(tiny(), tmp_path).train.images[:], expected)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        load(tiny(), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "change",
    [{"identities": 0}, {"test_identities": 1}, {"test_images_per_identity": 1}, {"seed": -1}, {"workers": -1}],
)
def test_a_figure_out_of_range_is_named(change: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least"):
        load(tiny(**change), tmp_path)


def test_the_fingerprint_follows_content_and_not_effort() -> None:
    changes = [
        {"identities": 9},
        {"images_per_identity": 9},
        {"test_identities": 9},
        {"test_images_per_identity": 9},
        {"test_pairs": 10},
        {"seed": 9},
    ]
    prints = {fingerprint(tiny())} | {fingerprint(tiny(**change)) for change in changes}
    assert len(prints) == 7
    assert fingerprint(tiny(workers=7)) == fingerprint(tiny())


def test_the_config_is_a_hydra_schema() -> None:
    merged = OmegaConf.merge(OmegaConf.structured(SyntheticConfig), {"identities": 7})
    config = OmegaConf.to_object(merged)
    assert isinstance(config, SyntheticConfig)
    assert config.identities == 7


def test_people_held_out_are_nobody_who_is_trained_on_or_evaluated_on(tmp_path):
    config = SyntheticConfig(
        identities=2,
        images_per_identity=2,
        test_identities=2,
        test_images_per_identity=2,
        test_pairs=4,
        workers=1,
        held_out_identities=2,
    )
    data = load(config, tmp_path)
    (held_out,) = data.held_out
    images = [image.tobytes() for part in (data.train, data.test, held_out.faces) for image in part.images]
    assert len(set(images)) == len(images) == 12
    assert load(replace(config, held_out_identities=0), tmp_path).held_out == ()
    with pytest.raises(ValueError, match="held_out_identities is 0, or 2 or more"):
        load(replace(config, held_out_identities=1), tmp_path)
