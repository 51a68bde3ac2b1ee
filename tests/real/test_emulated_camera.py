"""The whole camera on the emulated Cortex-A53, on a clip of rendered people. Minutes, so only on request."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.benchmark.emulated_camera import CameraRequest, prediction_table, run
from slimcam.deploy.gallery.match import threshold
from slimcam.deploy.gallery.people import Person, Snapshot
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision.align import align
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.image_files import read_picture
from slimcam.training.tools.demo_clip import ClipConfig, write_clip

MODELS = Path(__file__).parents[2] / "deploy/models"
DETECTOR, RECOGNIZER = MODELS / "detector", MODELS / "recognizer"

pytestmark = [
    pytest.mark.skipif(
        "SLIMCAM_EMULATED" not in os.environ,
        reason="set SLIMCAM_EMULATED=1 to run the emulated Cortex-A53 (some minutes)",
    ),
    pytest.mark.skipif(not DETECTOR.is_dir(), reason="needs deploy/models/detector"),
]


def test_the_emulated_arm_sees_what_this_machine_sees(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, ClipConfig())
    truth = json.loads((tmp_path / "truth.json").read_text())
    prediction = run(
        CameraRequest(
            source=str(clip),
            detector=str(DETECTOR),
            recognizer=str(RECOGNIZER),
            snapshot=enrolled(tmp_path, truth["enrolled"]),
            threshold=threshold(Recognizer(RECOGNIZER).bundle, 0.001),
            margin=0.05,
            # Its first frame with two faces, and those about it.
            skip=max(0, [len(frame["faces"]) for frame in truth["frames"]].index(2) - 4),
        )
    )
    print(prediction_table(prediction))
    assert prediction.differences == []
    assert {face["person"] for answer in prediction.seen for face in answer["faces"]} - {None}
    by_name = {stage.name: stage for stage in prediction.stages}
    assert by_name["detect"].parts["models"] > 0.5 * by_name["detect"].instructions
    assert by_name["embed"].parts["models"] > 0.5 * by_name["embed"].instructions
    assert all(0 < rate.fps.low < rate.fps.value < rate.fps.high for rate in prediction.rates)


def enrolled(folder: Path, pictures: dict[str, list[str]]) -> Snapshot:
    """A gallery of the people of a clip."""
    detector, recognizer = open_detector(DETECTOR), Recognizer(RECOGNIZER)
    people, owners, crops = [], [], []
    for place, (name, files) in enumerate(pictures.items()):
        people.append(Person(f"{place:032x}", name, len(files), 0.0, None, "drawn"))
        for file in files:
            image = read_picture(folder / file)
            faces = detector.detect(image)
            if len(faces):
                crops.append(align(image, faces.points[0]))
                owners.append(place)
    return Snapshot(1, tuple(people), recognizer.embed(np.stack(crops)), np.array(owners))
