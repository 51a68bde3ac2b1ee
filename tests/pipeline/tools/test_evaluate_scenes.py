"""The scene of `make camera`, shorter, played and evaluated with the recognizer that comes with slimcam."""

from __future__ import annotations

import json

import pytest

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.detector import open_detector
from slimcam.pipeline.tools.evaluate_scenes import SceneResult, evaluate_scene, main, table
from slimcam.training.tools.demo_clip import ClipConfig

# As long as everybody needs to appear: who is not enrolled comes third.
SCENE = ClipConfig(seconds=10, people=2, seed=0)


@pytest.fixture(scope="module")
def results() -> dict[float, SceneResult]:
    detector, recognizer = open_detector(DETECTOR), Recognizer(RECOGNIZER)
    return {least: evaluate_scene(SCENE, detector, recognizer, least, 0.0) for least in (-1.0, 0.4, 1.0)}


def test_every_face_is_counted_once(results):
    totals = {each.unknown_faces + each.enrolled_faces + each.missed for each in results.values()}
    assert len(totals) == 1
    assert all(each.right + each.wrong <= each.enrolled_faces for each in results.values())
    assert all(each.missed < 0.2 * each.enrolled_faces for each in results.values())


def test_without_a_threshold_all_are_false_positives_and_above_all_cosines_none(results):
    assert results[-1.0].false_positives > 0.5 * results[-1.0].unknown_faces > 0
    assert results[-1.0].highest_false_positive < 1
    assert (results[1.0].false_positives, results[1.0].right, results[1.0].wrong) == (0, 0, 0)
    assert results[1.0].highest_false_positive is None


def test_with_the_camera_s_threshold_most_enrolled_faces_have_their_name(results):
    assert results[0.4].right > 0.5 * results[0.4].enrolled_faces
    assert results[0.4].right > 10 * results[0.4].wrong


def test_the_table_says_in_how_many_scenes_there_are_false_positives(results):
    said = table([results[-1.0], results[1.0]])
    assert "false positive identifications in 1 of 2 scenes" in said


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    main(["--seeds", "1", "--first", "3", "--seconds", "2", "--out", str(tmp_path / "scenes.json")])
    assert "of 1 scenes" in capsys.readouterr().out
    assert json.loads((tmp_path / "scenes.json").read_text())["scenes"][0]["seed"] == 3
    with pytest.raises(SystemExit, match=r"no threshold for a false accept rate of 0.5"):
        main(["--far", "0.5"])
