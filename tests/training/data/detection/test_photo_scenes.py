"""Real photographs as scenes: their faces stay where they are seen, whatever is cut and scaled."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE, face_sizes
from slimcam.training.data.detection import photo_scenes, scenes
from slimcam.training.data.detection.labels import FaceLabels
from slimcam.training.data.detection.photo_scenes import LabeledPhotograph, mosaic, photograph_scene
from slimcam.training.data.detection.scenes import ScenesConfig, Sources

COLORS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)])


def face(width, x, y):
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) * width / 72 + (x, y)).astype(np.float32)


def labeled(image, points, boxed=None, ignored=()):
    _, code = cv2.imencode(".png", image[..., ::-1])
    boxed = np.zeros(len(points), bool) if boxed is None else np.array(boxed)
    return LabeledPhotograph(code, FaceLabels(points, boxed, np.array(ignored, np.float32).reshape(-1, 4)))


@pytest.fixture
def undegraded(monkeypatch):
    monkeypatch.setattr(photo_scenes, "photograph", lambda image, _smallest, _rng: image)


@pytest.mark.usefixtures("undegraded")
def test_faces_stay_where_they_are_seen():
    image = np.full((400, 600, 3), 60, np.uint8)
    points = np.stack([face(60, 150, 120), face(40, 400, 250), face(90, 300, 300)])
    for center, color in zip(points.mean(axis=1), COLORS, strict=True):
        cv2.circle(image, [int(value) for value in center.round()], 14, color.tolist(), -1)
    source, seen = labeled(image, points), 0
    for seed in range(40):
        scene = photograph_scene(source, 240, 320, np.random.default_rng(seed))
        assert scene.image.shape == (240, 320, 3)
        for center in scene.points.mean(axis=1):
            x, y = center.round().astype(int)
            if 0 <= x < 320 and 0 <= y < 240:
                seen += 1
                assert np.abs(scene.image[y, x].astype(int) - COLORS).sum(axis=1).min() < 60
    assert seen > 60


def test_half_of_the_scenes_show_all_of_the_photograph_and_the_others_sizes_of_all_scales():
    source = labeled(np.zeros((480, 640, 3), np.uint8), face(40, 300, 200)[None])
    sizes = np.array(
        [
            face_sizes(scene.points)[0] if len(scene.points) else 0
            for scene in (photograph_scene(source, 240, 320, np.random.default_rng(seed)) for seed in range(200))
        ]
    )
    assert 0.4 < np.isclose(sizes, 20, rtol=0.01).mean() < 0.65
    others = sizes[~np.isclose(sizes, 20, rtol=0.01)]
    assert others.min() > 20, "never smaller than in the whole"
    assert others.max() == pytest.approx(60, rel=0.05), "enlarged by half at the most"


@pytest.mark.usefixtures("undegraded")
@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_a_large_photograph_is_shown_as_a_smaller_one_is(kind):
    blobs = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    small = cv2.resize(blobs, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    large, points = cv2.resize(small, None, fx=9, fy=9, interpolation=cv2.INTER_CUBIC), face(20, 150, 120)[None]
    shown = [
        photograph_scene(
            LabeledPhotograph(cv2.imencode(kind, image)[1], FaceLabels(faces, np.zeros(1, bool), np.zeros((0, 4)))),
            *(240, 320),
            np.random.default_rng(seed),
        )
        for seed in range(30)
        for image, faces in ((small, points), (large, (points + 0.5) * 9 - 0.5))
    ]
    whole = [
        pair
        for pair in zip(shown[::2], shown[1::2], strict=True)
        if np.isclose(face_sizes(pair[0].points), 20, rtol=1e-3).all()
    ]
    assert len(whole) > 5
    for one, other in whole:
        np.testing.assert_allclose(other.points, one.points, atol=0.01)
        assert np.abs(other.image.astype(float) - one.image).mean() < 3, "a pixel to the side it is 10"


@pytest.mark.parametrize("damaged", [lambda code: code[:0], lambda code: np.concatenate([code[:40], code[:40]])])
def test_a_photograph_that_can_no_longer_be_read_is_said(damaged):
    source = labeled(np.zeros((48, 64, 3), np.uint8), face(20, 30, 20)[None])
    with pytest.raises(ValueError, match="a photograph that could be read no longer can"):
        photograph_scene(LabeledPhotograph(damaged(source.pixels), source.labels), 24, 32, np.random.default_rng(0))


@pytest.mark.usefixtures("undegraded")
def test_what_is_ignored_and_what_is_too_small_moves_along():
    points = np.stack([face(80, 100, 100), face(10, 400, 300)])
    source = labeled(np.zeros((480, 640, 3), np.uint8), points, [True, False], [(500, 100, 40, 60)])
    whole = (
        scene
        for scene in (photograph_scene(source, 240, 320, np.random.default_rng(seed)) for seed in range(50))
        if np.allclose(face_sizes(scene.points), 40, rtol=0.01)
    )
    for scene in (next(whole), next(whole)):
        assert scene.boxed.tolist() == [True]
        assert scene.ignored.shape == (2, 4)
        np.testing.assert_allclose(scene.ignored[:, 2:], [(20, 30), (5, 6.4)], rtol=0.02)
    mirrored = {round(float(next(whole).ignored[0, 0])) for _ in range(8)}
    assert mirrored == {250, 50}, "left edge of the region, and of its mirror image"


@pytest.mark.parametrize("across", [2, 3, 4])
@pytest.mark.usefixtures("undegraded")
def test_a_mosaic_shows_photographs_side_by_side_and_no_face_reaches_into_the_next(across):
    colors = np.array([(80 * red, 80 * green, 200) for red in range(4) for green in range(4)])[: across**2]
    sources = []
    for color in colors:
        points = np.stack([face(90, 150, 120), face(90, 420, 250)])
        image = np.full((400, 600, 3), 60, np.uint8)
        for center in points.mean(axis=1):
            cv2.circle(image, [int(value) for value in center.round()], 30, color.tolist(), -1)
        sources.append(labeled(image, points, [True, False], [(500, 0, 100, 400)]))
    part, sizes = np.array([320 // across, 240 // across]), []
    for seed in range(20):
        scene = mosaic(sources, 240, 320, np.random.default_rng(seed))
        assert len(scene.points) == len(scene.boxed) >= 1
        for center in scene.points.mean(axis=1):
            x, y = center.astype(int)
            column, row = center // part
            assert np.abs(scene.image[y, x].astype(int) - colors[int(row * across + column)]).sum() < 40
        assert (scene.ignored[:, :2] >= 0).all()
        assert (scene.ignored[:, :2] + scene.ignored[:, 2:] <= across * part).all()
        sizes += face_sizes(scene.points).tolist()
    whole = 90 * 240 / 400 / across
    assert whole / 2 < np.median(sizes) < 2 * whole
    assert max(sizes) <= 240 / across


def test_scenes_of_photographs_are_single_ones_and_mosaics_of_each_size(monkeypatch):
    sides = []
    monkeypatch.setattr(scenes, "mosaic", lambda sources, *_: sides.append(math.isqrt(len(sources))))
    monkeypatch.setattr(scenes, "photograph_scene", lambda *_: sides.append(1))
    composed = scenes.Composed(Sources((), (None,)), ScenesConfig(people=2, photo_share=0.99))
    mixed = scenes.Mixed(composed, [labeled(np.zeros((9, 9, 3)), np.zeros((0, 5, 2)))])
    monkeypatch.setattr(scenes, "compose", lambda *_: sides.append(0))
    for index in range(400):
        mixed[index]
    shares = np.bincount(sides, minlength=5)[1:] / len(sides)
    np.testing.assert_allclose(shares, [0.75, 0.08, 0.08, 0.08], atol=0.05)
