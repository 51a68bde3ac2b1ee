"""The scene of `make camera`, shorter, played and judged with the recognizer that comes with slimcam."""

from __future__ import annotations

import json

import pytest

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.detector import open_detector
from slimcam.pipeline.tools.judge_scenes import SceneResult, judge_scene, main, table
from slimcam.training.tools.demo_clip import ClipConfig

# As long as everybody needs to appear: the stranger comes third.
SCENE = ClipConfig(seconds=10, people=2, seed=28)


@pytest.fixture(scope="module")
def judged() -> dict[float, SceneResult]:
    detector, recognizer = open_detector(DETECTOR), Recognizer(RECOGNIZER)
    return {least: judge_scene(SCENE, detector, recognizer, least, 0.0) for least in (-1.0, 0.4, 1.0)}


def test_every_face_is_counted_once(judged):
    totals = {each.stranger_faces + each.enrolled_faces + each.missed for each in judged.values()}
    assert len(totals) == 1
    assert all(each.right + each.wrong <= each.enrolled_faces for each in judged.values())
    assert all(each.missed < 0.2 * each.enrolled_faces for each in judged.values())


def test_without_a_threshold_every_stranger_is_somebody_and_above_all_cosines_nobody_is(judged):
    assert judged[-1.0].stranger_named > 0.5 * judged[-1.0].stranger_faces > 0
    assert judged[-1.0].stranger_taken_for < 1
    assert (judged[1.0].stranger_named, judged[1.0].right, judged[1.0].wrong) == (0, 0, 0)
    assert judged[1.0].stranger_taken_for is None


def test_with_the_camera_s_threshold_most_enrolled_faces_have_their_name(judged):
    assert judged[0.4].right > 0.5 * judged[0.4].enrolled_faces
    assert judged[0.4].right > 10 * judged[0.4].wrong


def test_the_table_says_in_how_many_scenes_a_stranger_is_taken_for_somebody(judged):
    said = table([judged[-1.0], judged[1.0]])
    assert "strangers taken for somebody in 1 of 2 scenes" in said


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    main(["--seeds", "1", "--first", "28", "--seconds", "2", "--out", str(tmp_path / "scenes.json")])
    assert "of 1 scenes" in capsys.readouterr().out
    assert json.loads((tmp_path / "scenes.json").read_text())["scenes"][0]["seed"] == 28
    with pytest.raises(SystemExit, match=r"no threshold for a false accept rate of 0.5"):
        main(["--far", "0.5"])
