"""Far faces, rendered, in short clips: found with `reach=far` alone, by passes of the network that are counted."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.align import face_sizes
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.far_faces import Reach
from slimcam.pipeline.tools.evaluate_reach import (
    clip_frames,
    evaluate_reach,
    main,
    reach_table,
    scene_of,
    time_frames,
    timed_table,
)
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.detection.scene import Picture, Sources
from slimcam.training.data.drawing.portrait import draw
from slimcam.training.data.drawing.traits import sample_person, sample_shot


@pytest.fixture(scope="module")
def sources() -> Sources:
    people = [(sample_person(1 << 33 | number), sample_shot(1 << 33 | number, 0)) for number in range(6)]
    return Sources((), [Picture(draw(*one), rendered_points(*one)) for one in people])


OPTIONS = argparse.Namespace(widths=[28], clips=1, faces=3, fps=25.0, seconds=1.2, timed=3, sizes=["720p"])


def test_faces_are_as_wide_as_asked_for_and_move_where_they_are_to(sources: Sources) -> None:
    for moving in (False, True):
        rng = np.random.default_rng(0)
        behind, walkers = scene_of(sources, (720, 1280), [24, 60], moving, rng)
        frames = list(clip_frames(behind, walkers, 10, 5, rng))
        for _, points in frames:
            np.testing.assert_allclose(face_sizes(points), [24, 60], rtol=0.01)
        way = np.linalg.norm(frames[4][1].mean(axis=1) - frames[0][1].mean(axis=1), axis=1)
        np.testing.assert_allclose(way, [0.4 * 3 * 24, 0.4 * 3 * 60] if moving else 0, rtol=0.01, atol=1e-6)


def test_far_faces_are_found_with_reach_far_alone(sources: Sources) -> None:
    detector, recognizer = open_detector(DETECTOR), Recognizer(RECOGNIZER)
    results = evaluate_reach("720p", sources, detector, recognizer, OPTIONS)
    near, far = (results[28, False, reach] + results[28, True, reach] for reach in Reach)
    assert (near.passes, far.passes) == (60, 120)
    assert sum(each <= 1 for each in near.first) < sum(each <= 1 for each in far.first) > 3
    assert "28" in reach_table("720p", results, 25)
    timed = time_frames(sources, detector, recognizer, OPTIONS)
    assert [passes for _, passes in timed.values()] == [1, 1, 1, 1, 1, 2, 1, 2]
    assert "of 640x360" in timed_table(timed)


def test_bad_options_are_told_in_one_line() -> None:
    for words in (["--seconds", "0.5"], ["--detector", "nowhere"]):
        with pytest.raises(SystemExit, match=r"^evaluate_reach: "):
            main(words)
