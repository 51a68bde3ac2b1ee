"""`slimcam-camera source=CLIP target=snapdragon_625`, which `slimcam.deploy.apps.camera` hands over to here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from slimcam.deploy.apps.camera import CameraConfig, start
from slimcam.deploy.benchmark import emulated_camera
from slimcam.deploy.benchmark.emulated import EmulatedConfig
from slimcam.deploy.benchmark.targets import register
from slimcam.deploy.camera.known_people import KnownPeople
from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer

EMULATED_FRAMES = 5
"""Frames that an emulated device answers, unless `frames` is given."""


def main() -> None:
    """Runs what the command line asks for."""
    register()
    start(emulate)


def emulate(config: CameraConfig) -> None:
    """Runs the camera on an emulated device for a few frames; prints what it would take there.

    Raises:
        ValueError: the target is none that is emulated.
        OSError: the device cannot be made.
        RuntimeError: its camera fails, or sees something else than this machine does.
    """
    if not isinstance(config.target, EmulatedConfig):
        raise ValueError("a camera runs here or on an emulated target, such as target=snapdragon_625")
    recognizer = Recognizer(config.recognizer or RECOGNIZER, config.threads)
    known = KnownPeople(recognizer, config.gallery, config.key, config.far, config.margin, config.quality)
    try:
        request = emulated_camera.CameraRequest(
            source=str(config.source),
            detector=str(config.detector or DETECTOR),
            recognizer=str(recognizer.bundle.path),
            snapshot=known.snapshot(),
            threshold=known.threshold,
            margin=config.margin,
            reach=config.reach,
            frames=config.frames or EMULATED_FRAMES,
            capture=asdict(config.capture),
            quality=asdict(config.quality),
            track=asdict(config.track),
            recognize=asdict(config.recognize),
            device=config.target,
        )
    finally:
        known.close()
    prediction = emulated_camera.run(request)
    show(emulated_camera.prediction_table(prediction))
    if config.report:
        write_text(Path(config.report), json.dumps(asdict(prediction), indent=2) + "\n")
    if prediction.differences:
        raise RuntimeError(f"{prediction.device} does not see what this machine does; see above")
