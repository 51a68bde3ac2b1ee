from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.camera.sources import open_source
from slimcam.deploy.vision.align import align, face_sizes
from slimcam.deploy.vision.image_files import read_picture
from slimcam.training.tools.demo_clip import NAMES, ClipConfig, _cast, main, schedule, write_clip

SMALL = ClipConfig(seconds=8.0, fps=5, width=320, height=180, people=2, unknown=1, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def truth(folder: Path) -> Any:
    return json.loads((folder / "truth.json").read_text())


def test_the_clip_has_a_frame_for_each_line_of_the_truth(folder: Path, truth: Any) -> None:
    frames = list(open_source(str(folder / truth["video"])))
    assert len(frames) == len(truth["frames"]) == 40
    assert truth["fps"] == 5
    assert {frame.image.shape for frame in frames} == {(180, 320, 3)}
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(40) / 5, atol=1e-3)


def test_people_to_enrol_have_pictures_and_others_have_none(folder: Path, truth: Any) -> None:
    assert list(truth["enrolled"]) == list(NAMES[:2])
    assert {path.name for path in (folder / "people").iterdir()} == set(NAMES[:2])
    for files in truth["enrolled"].values():
        assert len(files) == 3
        for file in files:
            assert read_picture(folder / file).shape == (320, 320, 3)


def test_everybody_is_seen_and_their_points_are_inside(truth: Any) -> None:
    faces = [face for frame in truth["frames"] for face in frame["faces"]]
    assert {face["person"] for face in faces} == {*NAMES[:2], "unknown-1"}
    points = np.array([face["points"] for face in faces])
    assert points.shape == (len(faces), 5, 2)
    middles = points.mean(axis=1)
    assert np.all((middles >= 0) & (middles <= (319, 179)))
    sizes = face_sizes(points)
    assert 180 * 0.14 < sizes.min() < sizes.max() < 180 * 0.36


def test_the_points_are_where_the_face_is_drawn(folder: Path, truth: Any) -> None:
    """Crops of somebody by the points resemble each other over an appearance more than what is beside the face does."""
    frames = [frame.image for frame in open_source(str(folder / truth["video"]))]
    at, beside = [], []
    for (image, now), (following, then) in pairwise(zip(frames, truth["frames"], strict=True)):
        for one in now["faces"]:
            for other in then["faces"]:
                if one["person"] == other["person"]:
                    points = np.array(one["points"]), np.array(other["points"])
                    at.append(_difference(align(image, points[0]), align(following, points[1])))
                    beside.append(_difference(align(image, points[0]), align(following, points[1] + 0.15 * 40)))
    assert len(at) > 20
    assert np.median(at) < 0.6 * np.median(beside)


def _difference(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    inner = slice(30, 90)  # without what is behind the head
    return float(np.abs(one[inner, inner].astype(float) - other[inner, inner]).mean())


def test_the_same_config_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    write_clip(tmp_path, SMALL)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 8
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_a_folder_with_other_people_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    picture = tmp_path / "people" / "Somebody Else" / "1.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"kept")
    with pytest.raises(ValueError, match="Somebody Else is not of this clip; take another folder"):
        write_clip(tmp_path, SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [picture]


@pytest.mark.parametrize("people", [1, 2, 4])
def test_nobody_is_in_two_places_and_everybody_comes_back(people: int) -> None:
    config = ClipConfig(seconds=40.0, people=people, unknown=0)
    appearances = schedule(_cast(config), config)
    for one, other in combinations(appearances, 2):
        if one.member is other.member:
            assert one.end <= other.begin or other.end <= one.begin
            assert one.shot is not other.shot
    for name in NAMES[:people]:
        assert sum(one.member.name == name for one in appearances) >= 2
    assert all(0 <= one.begin < one.end <= 40.0 for one in appearances)


def test_pictures_to_enrol_are_of_other_shots_than_the_clip() -> None:
    for member in _cast(SMALL):
        assert len({shot.seed for shot in (*member.stills, *member.shots)}) == len(member.stills) + len(member.shots)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"people": 0, "unknown": 0}, "1 person at the least"),
        ({"people": 11}, "up to 10"),
        ({"seconds": float("nan")}, "2 to 3600 seconds"),
        ({"fps": 0}, "1 to 60 frames"),
        ({"seed": -1}, "a seed from 0 on"),
        ({"width": 641}, "even"),
        ({"height": 720}, "no higher than it is wide"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(**options)


def test_a_mistake_on_the_command_line_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "clip"), "--people", "50"])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("clip: a clip shows")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "file" / "clip"), "--seconds", "2"])
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "clip").exists()
