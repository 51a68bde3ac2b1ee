"""Some frames of a clip through the whole camera: the same work on this machine and on the emulated ARM, to compare."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.camera.recognition import RecognitionPipeline, timed
from slimcam.deploy.camera.sources import SourceConfig, kind_of, open_source
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.gallery.match import Matcher
from slimcam.deploy.gallery.people import Person, Snapshot
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import STAGES, Frame, View
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.far_faces import Reach
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig

COUNTED = ("source", *STAGES[:-1], "rest")
"""What instructions are counted for, frame by frame: reading it, the stages of recognition, and what is in none."""


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """What a camera is tried with: paths and plain values.

    Attributes:
        source: Video file or folder of pictures.
        skip: Number of frames at the beginning of the source that are not looked at.
        warmup: Number of frames before those that count; memory is touched for the first time in them.
        frames: Number of frames that count.
        detector: Bundle of the detector, or YuNet's .onnx file.
        recognizer: Bundle of the recognizer.
        reach: `Reach` of the camera.
        threshold: Threshold of the `Matcher`.
        margin: Margin of the `Matcher`.
        capture: Options of `SourceConfig`.
        quality: Options of `QualityConfig`.
        track: Options of `TrackConfig`.
        recognize: Options of `RecognizeConfig`.
    """

    source: str
    detector: str
    recognizer: str
    threshold: float
    margin: float
    reach: str = Reach.near.value
    skip: int = 0
    warmup: int = 2
    frames: int = 5
    capture: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    track: dict[str, Any] = field(default_factory=dict)
    recognize: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial(TrialOptions):
    """Input of a trial of the camera, which fits into a JSON file; see `TrialOptions`.

    Attributes:
        gallery: File that `write_gallery` wrote; `None` for no gallery.
        pictures: File that the emulated ARM writes its frames to.
    """

    gallery: str | None = None
    pictures: str = ""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Trial:
        return cls(**json.loads(path.read_text()))


def write_gallery(snapshot: Snapshot, path: Path) -> None:
    """Writes what matching needs, without names: on the emulated ARM, galleries cannot be decrypted."""
    ids = np.array([person.id for person in snapshot.people], dtype="<U64")
    np.savez(path, embeddings=snapshot.embeddings, owners=snapshot.owners, ids=ids)


def read_gallery(path: Path) -> Snapshot:
    """Reads what `write_gallery` wrote; people have no names."""
    with np.load(path) as content:
        people = tuple(Person(str(each), "", 0, 0.0, None, "") for each in content["ids"])
        return Snapshot(0, people, content["embeddings"], content["owners"])


def open_recognition(trial: Trial, begin: Callable[[str], None] | None = None) -> RecognitionPipeline:
    """The camera between its source and its outputs.

    Args:
        begin: Called with the one of `COUNTED` that begins; the stages are timed without it.
    """
    recognizer = Recognizer(trial.recognizer)
    matcher = Matcher(read_gallery(Path(trial.gallery)), trial.threshold, trial.margin) if trial.gallery else None
    return RecognitionPipeline(
        open_detector(trial.detector),
        recognizer,
        matcher,
        RecognizeConfig(**trial.recognize),
        QualityConfig(**trial.quality),
        TrackConfig(**trial.track),
        timed if begin is None else _telling(begin),
        kind_of(trial.source, SourceConfig(**trial.capture)),
        reach=Reach(trial.reach),
    )


def _telling(begin: Callable[[str], None]) -> Callable[[dict[str, float], str], AbstractContextManager[None]]:
    @contextmanager
    def stage(_: dict[str, float], name: str) -> Iterator[None]:
        begin(name)
        yield
        begin("rest")

    return stage


def frames_of(trial: Trial) -> Iterator[Frame]:
    """The frames that are looked at, of the source; fewer where it ends."""
    with open_source(trial.source, SourceConfig(**trial.capture)) as source:
        yield from itertools.islice(source, trial.skip, trial.skip + trial.warmup + trial.frames)


def pictured(trial: Trial, like: list[dict[str, Any]]) -> Iterator[Frame]:
    """The frames that the emulated ARM read, with the numbers and times in its answers."""
    with np.load(trial.pictures) as pictures:
        for name, answer in zip(pictures.files, like, strict=True):
            yield Frame(pictures[name], answer["number"], answer["seconds"], time.monotonic())


def seen(view: View) -> dict[str, Any]:
    """What a camera saw in a frame, as JSON."""
    return {
        "number": view.frame.number,
        "seconds": view.frame.seconds,
        "faces": [
            {
                "track": sighting.track,
                "points": [[round(float(value), 2) for value in point] for point in sighting.points],
                "quality_issues": list(sighting.quality_issues),
                "looked_at": sighting.identity is not None,
                "person": sighting.identity.person if sighting.identity else None,
                "score": round(sighting.identity.score, 4) if sighting.identity else None,
            }
            for sighting in view.sightings
        ],
    }


NOTHING = (1 << 20) * len(COUNTED)
"""The profiler's number of what is not of the camera; no frame has it."""


def stage_number(frame: int, name: str) -> int:
    """The profiler's number of a stage of a frame, both from 0."""
    return frame * len(COUNTED) + COUNTED.index(name)


def stage_of(number: int) -> tuple[int, str]:
    """Frame and stage of a number."""
    frame, place = divmod(number, len(COUNTED))
    return frame, COUNTED[place]
