"""Composed scenes: points on the features, no face without points, the same scene each time; lists with faults."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from slimcam.deploy.vision.align import TEMPLATE, face_corners, face_sizes, similarity
from slimcam.training.data.detection.compose import FACELESS, arrange, compose
from slimcam.training.data.detection.pasting import LEAST_SEEN
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.detection.scene import Picture, Scene, Sources
from slimcam.training.data.detection.scenes import Composed, ScenesConfig, fingerprint, fit, load
from slimcam.training.data.drawing.portrait import draw
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.synthetic import draw_face

RED, GREEN, BLUE, YELLOW, MAGENTA = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)
DOTS = (RED, GREEN, BLUE, YELLOW, MAGENTA)
MIRRORED = (GREEN, RED, BLUE, MAGENTA, YELLOW)
ONE = ScenesConfig(smallest=60, largest=110, faces=1)
COLUMNS = ["path", "score", "faces_found", "lx", "ly", "rx", "ry", "nx", "ny", "mlx", "mly", "mrx", "mry"]
ON_PHOTO = (TEMPLATE * 1.2 + (60, 50)).astype(np.float32)


def dotted(size, points):
    """A gray picture with a colored dot on each of five points."""
    image = np.full((size, size, 3), 128, np.uint8)
    for point, color in zip(points, DOTS, strict=True):
        cv2.circle(image, np.rint(point * 16).astype(int).tolist(), 5 * 16, color, -1, cv2.LINE_AA, 4)
    return image


def masked(size, points):
    """A gray picture with a magenta face."""
    image = np.full((size, size, 3), 128, np.uint8)
    cv2.fillPoly(image, [np.rint(face_corners(points)[0]).astype(np.int32)], MAGENTA)
    return image


def sources_of(paint):
    photo, crop = Picture(paint(250, ON_PHOTO), ON_PHOTO), Picture(paint(112, TEMPLATE), TEMPLATE)
    return Sources((photo,), (crop,))


def likeness(image, color):
    """0..1, how much each pixel has of a color and not of the others."""
    pixels = image.astype(float) / 255
    has = np.array(color) > 0
    return np.clip(pixels[..., has].min(axis=2) - pixels[..., ~has].max(axis=2), 0, 1)


def dot_at(image, point, color):
    """The center of gravity of a color about a point, or None where it is not to be seen."""
    low, high = np.maximum(np.rint(point).astype(int) - 8, 0), np.rint(point).astype(int) + 9
    near = likeness(image[low[1] : high[1], low[0] : high[0]], color)
    near[near < 0.3] = 0
    if near.sum() < 10:
        return None
    rows, columns = np.indices(near.shape)
    return low + np.array([(columns * near).sum(), (rows * near).sum()]) / near.sum()


@pytest.fixture(scope="module")
def scene_of_dots():
    sources = sources_of(dotted)
    return [arrange(sources, ONE, np.random.default_rng((7, i))) for i in range(120)]


def test_points_lie_on_the_features_however_a_face_is_mirrored_turned_and_pasted(scene_of_dots):
    plain = reflected = 0
    errors = []
    for scene in scene_of_dots:
        for points in scene.points:
            whole = (points > 8).all() and (points < (ONE.width - 9, ONE.height - 9)).all()
            found = {
                order: [dot_at(scene.image, point, color) for point, color in zip(points, order, strict=True)]
                for order in (DOTS, MIRRORED)
            }
            seen = {order: sum(dot is not None for dot in dots) for order, dots in found.items()}
            if not whole or max(seen.values()) < 5:
                continue
            # The nose's dot is the same in both.
            assert min(seen.values()) == 1
            order = max(seen, key=lambda order: seen[order])
            plain, reflected = plain + (order == DOTS), reflected + (order == MIRRORED)
            errors += [np.hypot(*(dot - point)) for dot, point in zip(found[order], points, strict=True)]
    assert min(plain, reflected) > 15
    assert np.mean(errors) < 0.25
    assert np.quantile(errors, 0.95) < 0.6


def test_left_stays_left_in_the_mirror(scene_of_dots):
    for points in (points for scene in scene_of_dots for points in scene.points):
        upright = similarity(points, TEMPLATE)
        left, right = (points @ upright[:, :2].T + upright[:, 2])[[0, 1]]
        assert left[0] < right[0]


def test_no_face_is_without_points_and_of_each_enough_is_seen():
    config = ScenesConfig()
    sources = sources_of(masked)
    faces = 0
    for i in range(150):
        scene = arrange(sources, config, np.random.default_rng((3, i)))
        allowed = np.zeros(scene.image.shape[:2], np.uint8)
        for points in scene.points:
            corners = face_corners(points)[0]
            region = np.zeros_like(allowed)
            cv2.fillPoly(region, [np.rint(corners).astype(np.int32)], 1)
            allowed |= cv2.dilate(region, np.ones((7, 7), np.uint8))
            if face_sizes(points)[0] > 30:
                faces += 1
                shown = (likeness(scene.image, MAGENTA)[region > 0] > 0.2).sum()
                # A soft edge takes a little of the face where the photo ends.
                assert shown > (LEAST_SEEN - 0.2) * cv2.contourArea(corners)
        assert not np.any(likeness(scene.image, MAGENTA)[allowed == 0] > 0.75)
    assert faces > 100


def test_faces_are_as_the_configuration_says():
    config = ScenesConfig(smallest=20, largest=100, faces=4)
    found = [arrange(sources_of(dotted), config, np.random.default_rng(i)).points for i in range(400)]
    counts = np.array([len(points) for points in found])
    assert counts.max() == 4
    assert 0.5 * FACELESS < np.mean(counts == 0) < 2 * FACELESS
    points = np.concatenate(found)
    middles = points.mean(axis=1)
    assert (middles >= 0).all()
    assert (middles <= (319, 239)).all()
    sizes = face_sizes(points)
    assert sizes.min() > 19
    assert sizes.max() < 101
    # As many below the geometric mean as above, but for those that found no room.
    assert 0.4 < np.mean(sizes < np.sqrt(20 * 100)) < 0.65
    eyes = points[:, 1] - points[:, 0]
    turned = np.abs(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])))
    assert 0.8 < np.mean(turned < 26) < 0.97
    assert 40 < turned.max() < 62
    # Some are cut by the frame.
    corners = face_corners(points)
    assert 0.1 < np.mean((corners < 0).any(axis=(1, 2)) | (corners > (319, 239)).any(axis=(1, 2))) < 0.4


def test_a_scene_is_the_same_on_any_number_of_threads_and_in_any_order():
    composed = Composed(sources_of(dotted), ScenesConfig(seed=5))
    alone = [composed[i] for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda i: composed[i], reversed(range(24))))[::-1]
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.points, other.points)
    others = [composed[1], replace(composed, stream=1)[0], Composed(composed.sources, ScenesConfig(seed=6))[0]]
    assert all(not np.array_equal(alone[0].image, other.image) for other in others)


def test_scenes_have_the_size_asked_for():
    for height, width in ((96, 64), (33, 200), (480, 640)):
        config = ScenesConfig(height=height, width=width)
        for i in range(8):
            scene = compose(sources_of(dotted), config, np.random.default_rng(i))
            assert scene.image.shape == (height, width, 3)
            assert scene.image.dtype == np.uint8
            assert scene.points.dtype == np.float32
            assert scene.points.shape[1:] == (5, 2)


def test_pictures_with_no_room_beside_the_face_serve_too():
    tight = Picture(dotted(80, (TEMPLATE - (16, 16)) * 0.98), ((TEMPLATE - (16, 16)) * 0.98).astype(np.float32))
    for i in range(30):
        compose(Sources((tight,), ()), ScenesConfig(), np.random.default_rng(i))


def test_a_fitted_picture_keeps_its_aspect_and_its_points():
    scene = Scene(dotted(250, ON_PHOTO), ON_PHOTO[None])
    for height, width in ((240, 320), (320, 240), (100, 300)):
        fitted = fit(scene, height, width)
        side = min(height, width)
        assert fitted.image.shape == (height, width, 3)
        assert (fitted.image[side:] == 128).all()
        assert (fitted.image[:, side:] == 128).all()
        for point, color in zip(fitted.points[0], DOTS, strict=True):
            dot = dot_at(fitted.image, point, color)
            assert dot is not None
            assert np.hypot(*(dot - point)) < 0.2


@pytest.mark.parametrize("seed", range(8))
def test_rendered_faces_have_their_points_where_they_are_drawn(seed):
    person = replace(sample_person(seed), eye_height=6.0)
    shot = replace(sample_shot(seed, 1), eyes_closed=0.0, gaze=(0.0, 0.0), glasses="none", occluder="none", motion=0.0)
    # A good camera in good light.
    shot = replace(shot, blur=0.25, jpeg=100, low_resolution=1.0, saturation=1.0, contrast=1.0, light_strength=0.2)
    shot = replace(shot, exposure=1.0, light_color=np.ones(3))
    points = rendered_points(person, shot)

    def changed(**parts):
        """Pixels, x and y, that another color of a part changes most."""
        other = draw(replace(person, **parts), shot).astype(int)
        change = np.abs(other - draw(person, shot)).sum(axis=2)
        return np.argwhere(change > max(0.2 * change.max(), 30))[:, ::-1]

    eyes = changed(iris=np.array([0.0, 255, 0]))
    sides = [eyes[eyes[:, 0] < points[2, 0]], eyes[eyes[:, 0] >= points[2, 0]]]
    for side, point in zip(sides, points[:2], strict=True):
        assert np.hypot(*(side.mean(axis=0) - point)) < 2.5
    lips = changed(lips=np.array([0.0, 255, 0]))
    lips = lips[lips[:, 1] > points[2, 1]]
    for corner, point in ((lips[lips[:, 0].argmin()], points[3]), (lips[lips[:, 0].argmax()], points[4])):
        assert np.hypot(*(corner - point)) < 4
    assert points[:2, 1].max() < points[2, 1] < points[3:, 1].min()


def rendered_config(**changes):
    return ScenesConfig(**{"people": 3, "held_out": 0.34, "test_scenes": 3, **changes})


def test_without_a_folder_faces_are_drawn_and_some_people_kept_for_the_test(tmp_path):
    data = load(rendered_config(), tmp_path)
    assert len(data.train.crops) == 8
    assert {name: len(found) for name, found in data.test.items()} == {"photos": 4, "scenes": 3}
    np.testing.assert_array_equal(data.train.crops[5].image(), draw_face(1, 1))
    np.testing.assert_array_equal(data.train.crops[5].points, rendered_points(sample_person(1), sample_shot(1, 1)))
    learned = {picture.image().tobytes() for picture in data.train.crops}
    assert not learned & {picture.image().tobytes() for picture in data.test["scenes"].sources.crops}
    for found in data.test.values():
        assert all(scene.image.shape == (240, 320, 3) for scene in found)
    assert all(len(scene.points) == 1 for scene in data.test["photos"])
    again = load(rendered_config(), tmp_path)
    np.testing.assert_array_equal(data.test["photos"][2].image, again.test["photos"][2].image)
    other = load(rendered_config(seed=1), tmp_path)
    np.testing.assert_array_equal(other.train.crops[5].image(), draw_face(1 << 33 | 1, 1))


def entry(name, *, found=1, points=ON_PHOTO):
    return [name, "0.9", str(found), *(f"{value:.2f}" for value in np.ravel(points))]


def write_list(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def write_picture(path, size=250, points=ON_PHOTO):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imencode(".png", cv2.cvtColor(dotted(size, points), cv2.COLOR_RGB2BGR))[1].tofile(path)


@pytest.fixture
def root(tmp_path):
    detect = tmp_path / "detect"
    for kind, names in (("train", ("Ann_A_0001.png", "Bob_B_0001.png")), ("test", ("Cy_C_0001.png",))):
        for name in names:
            write_picture(detect / kind / name)
        write_list(detect / f"{kind}.csv", [entry(name) for name in names])
    return tmp_path


def config_of(root: Path, **changes):
    return ScenesConfig(**{"root": str(root), "test_scenes": 4, **changes})


def test_photos_are_read_and_their_people_kept_apart(root, tmp_path):
    data = load(config_of(root), tmp_path)
    assert len(data.train.photos) == 2
    assert len(data.test["photos"]) == 1
    np.testing.assert_allclose(data.train.photos[0].points, ON_PHOTO, atol=0.01)
    np.testing.assert_array_equal(data.train.photos[0].image(), dotted(250, ON_PHOTO))
    assert data.test["scenes"].sources.photos == data.test["photos"].pictures
    with pytest.raises(IndexError):
        data.test["photos"][1]
    assert sum(1 for _ in data.test["scenes"]) == 4
    assert data.scenes[10**6].image.shape == (240, 320, 3)


def test_rendered_faces_join_those_of_a_folder(root, tmp_path):
    joined = load(config_of(root, people=2), tmp_path)
    assert len(joined.train.photos) == 2
    np.testing.assert_array_equal(joined.train.crops[5].image(), draw_face(1, 1))
    assert not load(config_of(root), tmp_path).train.crops
    assert fingerprint(config_of(root, people=2)) != fingerprint(config_of(root))


def test_rows_with_faults_are_left_out_and_listed_once_for_each_kind(root, tmp_path):
    swapped = ON_PHOTO[[1, 0, 2, 4, 3]]
    rows = [
        entry("Ann_A_0001.png"),
        entry("Ann_A_0001.png")[:7],
        [*entry("Ann_A_0001.png")[:-1], "left"],
        [*entry("Ann_A_0001.png")[:-1], "nan"],
        entry("Ann_A_0001.png", found=0),
        entry(""),
        entry("Ann_A_0001.png", points=np.full((5, 2), 7.0)),
        entry("Ann_A_0001.png", points=swapped),
        [],
        entry("Ann_A_0001.png", points=ON_PHOTO + 1000),
        entry("Bob_B_0001.png", found=3),
        entry("missing_0001.png"),
        entry("empty_0001.png"),
        entry("text_0001.png"),
        entry("nul\0_0001.png"),
        entry("."),
        entry("Cy_C_0002.png"),
    ]
    train = root / "detect" / "train"
    write_list(train.with_suffix(".csv"), rows)
    (train / "empty_0001.png").write_bytes(b"")
    (train / "text_0001.png").write_text("no picture")
    write_picture(train / "Cy_C_0002.png")
    data = load(config_of(root), tmp_path)
    assert len(data.train.photos) == 1
    notes = list(data.notes)
    assert len([note for note in notes if "train.csv with missing or senseless fields" in note]) == 1
    assert any(note.startswith("left out 7 rows of train.csv") and note.endswith("line 3") for note in notes)
    assert any("1 pictures of train.csv with several faces" in note and "Bob_B_0001.png" in note for note in notes)
    assert any("5 pictures of detect/train that cannot be read, the first of them missing_0001.png" in n for n in notes)
    assert any("1 pictures of detect/train that end before their face" in note for note in notes)
    assert any("of people to be evaluated by" in note and "Cy_C_0002.png" in note for note in notes)


def test_missing_and_unusable_lists_are_one_clear_line(root, tmp_path):
    test = root / "detect" / "test.csv"
    test.write_text("path,faces_found\nx,1\n")
    with pytest.raises(ValueError, match=r"test\.csv: not a list of faces; it lacks the columns lx, ly"):
        load(config_of(root), tmp_path)
    test.write_bytes(b"")
    with pytest.raises(ValueError, match="lacks the columns"):
        load(config_of(root), tmp_path)
    write_list(test, [])
    with pytest.raises(ValueError, match=r"no picture of .*test\.csv is usable"):
        load(config_of(root), tmp_path)
    test.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*test\.csv"):
        load(config_of(root), tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        fingerprint(config_of(root))


def test_aligned_crops_are_those_of_people_to_train_on(root, tmp_path):
    lfw = root / "lfw112"
    odd = ON_PHOTO + np.array([[2, 0], [-1, 1], [0, 4], [0, 0], [1, -2]], np.float32)
    for name in ("Ann_A", "Cy_C", "Eve_E"):
        write_picture(lfw / "images" / name / f"{name}_0001.jpg", 112, TEMPLATE)
    (lfw / "peopleDevTrain.txt").write_text("2\nAnn_A\t1\nCy_C\t1\n")
    data = load(config_of(root), tmp_path)
    assert len(data.train.crops) == 1
    np.testing.assert_array_equal(data.train.crops[0].points, TEMPLATE)
    assert any("evaluated by, the first of them Cy_C_0001.jpg" in note for note in data.notes)
    rows = [entry(f"{name}/{name}_0001.jpg", points=odd) for name in ("Ann_A", "Cy_C", "Eve_E")]
    write_list(lfw / "images_landmarks.csv", rows)
    points = load(config_of(root), tmp_path).train.crops[0].points
    assert len(load(config_of(root), tmp_path).train.crops) == 1
    # The landmarks that the crop was made of lie about the template as they lay in the photo.
    np.testing.assert_allclose(points, (odd - odd.mean(axis=0)) / 1.2 + TEMPLATE.mean(axis=0), atol=1.0)
    assert np.abs(points - TEMPLATE).max() > 0.5
    np.testing.assert_allclose(similarity(points, TEMPLATE), [[1, 0, 0], [0, 1, 0]], atol=1e-4)


def test_without_crops_photos_do_and_it_is_said(root, tmp_path):
    data = load(config_of(root), tmp_path)
    assert not data.train.crops
    assert any("no peopleDevTrain.txt" in note for note in data.notes)


def test_the_fingerprint_follows_options_lists_and_pictures_but_not_the_place(root, tmp_path):
    first = fingerprint(config_of(root))
    assert fingerprint(config_of(root, seed=1)) != first
    assert fingerprint(config_of(root, largest=99.0)) != first
    assert len({fingerprint(rendered_config(**change)) for change in ({}, {"people": 5}, {"seed": 3})}) == 3
    assert fingerprint(rendered_config()) != first
    moved = root.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    assert fingerprint(config_of(moved)) == first
    (moved / "detect" / "train" / "new.png").write_bytes(b"1")
    second = fingerprint(config_of(moved))
    assert second != first
    (moved / "detect" / "train.csv").write_text("changed")
    assert fingerprint(config_of(moved)) != second


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": 8}, "32 pixels"),
        ({"smallest": 300.0}, "smallest"),
        ({"smallest": 0.0}, "smallest"),
        ({"faces": 0}, "faces=0"),
        ({"test_scenes": 0}, "1 test scene"),
        ({"people": 1}, "2 people"),
        ({"seed": -1}, "seed"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_options_out_of_range_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        ScenesConfig(**change)


def test_the_config_is_a_hydra_schema():
    merged = OmegaConf.merge(OmegaConf.structured(ScenesConfig), {"root": "somewhere", "height": 160})
    config = OmegaConf.to_object(merged)
    assert isinstance(config, ScenesConfig)
    assert (config.kind, config.root, config.height) == ("scenes", "somewhere", 160)
    assert OmegaConf.to_object(OmegaConf.structured(ScenesConfig)).root is None


def test_scenes_need_a_face():
    with pytest.raises(ValueError, match="need a face"):
        Sources((), ())
