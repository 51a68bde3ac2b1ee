"""`slimcam-camera source=0`: finds, follows and recognizes people live, and knows how fast it does."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from slimcam.deploy.camera.known_people import KnownPeople
from slimcam.deploy.camera.outputs.config import OutputsConfig
from slimcam.deploy.camera.outputs.opening import close_all, open_outputs
from slimcam.deploy.camera.outputs.output import Stop, tell
from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.record import Tally, camera_record, camera_table
from slimcam.deploy.camera.source_watch import POLL_SECONDS, SourceWatch
from slimcam.deploy.camera.sources import SourceConfig, open_source
from slimcam.deploy.camera.track_identity import IdentityMatcher, RecognizeConfig
from slimcam.deploy.camera.unknown_keeper import NobodyKnown, UnknownConfig, UnknownKeeper
from slimcam.deploy.camera.web.config import WebConfig
from slimcam.deploy.common import application
from slimcam.deploy.common.choices import choose
from slimcam.deploy.common.console import show
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.deploy.common.renamed_options import below
from slimcam.deploy.gallery.encryption import default_gallery
from slimcam.deploy.gallery.unknown_faces import UnknownFaces
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER, is_bundle
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.latency.record import write_records
from slimcam.deploy.latency.request import model_file
from slimcam.deploy.ota.config import OtaConfig
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Event, Notice, Output, SourceStatus
from slimcam.deploy.vision import quality, track
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.far_faces import Reach
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig

if TYPE_CHECKING:
    from slimcam.deploy.camera.updates import Updates

SOURCE_VARIABLE = "SLIMCAM_SOURCE"
"""The environment variable that the source is taken from where none is given: command lines, and passwords in them, are
seen by everybody on a machine."""

TEXTS = ("source", "web.token", "ota.url", "ota.device")
PATHS = (
    *("detector", "recognizer", "gallery", "key", "report"),
    *("outputs.video", "outputs.lines", "outputs.mqtt.ca", "unknown.folder"),
    *("ota.root", "ota.folder"),
)
"""Options whose values are taken as they are: addresses of cameras are full of what Hydra's grammar reads otherwise."""

EMULATED = "slimcam.deploy.benchmark.emulated_camera_cli"
"""The module that `target=` hands over to, by its name: a camera that runs here loads nothing of it."""

WARMUP = 3
"""Frames that do not count: in the first ones memory is touched and code is loaded."""


RENAMED_OPTIONS = below("quality", quality.RENAMED_OPTIONS) | below("track", track.RENAMED_OPTIONS)
"""Former names of options, which work for one version more."""


@dataclass
class CameraConfig:
    """The camera application.

    Attributes:
        source: Number of a webcam, a video file, a folder of pictures, rtsp:// or http:// address, or picamera.
        capture: Options of the source.
        detector: Bundle of a detector, or YuNet's .onnx file; null is slimcam's own.
        reach: How small the faces are that are looked for: `near`, in the whole frame fitted into the detector's input;
            `far`, in frames larger than 640x480 in parts of the frame too (docs/detector.md, "Far faces").
        recognizer: Bundle of a recognizer; null is slimcam's own.
        gallery: File of the people who are known; null is the user's own. It is made when the first one is enrolled.
        key: File of the gallery's key; null is the user's own.
        far: False accept rate (FAR) of the threshold: share of impostor pairs taken for one person. One of the rates
            that the bundle was measured at. With N people enrolled, an unknown face gets a name (FPIR) about N times as
            often.
        margin: Least difference of cosines between the best and the next person.
        threads: Threads of each model.
        quality: Limits of the views that are fit to be recognized.
        track: Options of the tracker.
        recognize: Options of how often faces are looked at.
        outputs: Where the answers go.
        unknown: Whether faces that were seen as unknown are kept, to be named on the page.
        web: Options of the page; none where its port is null.
        ota: Options of the updates of the models.
        report: JSON file for the latency of each stage, a record as `slimcam-benchmark` writes them; null for none.
        frames: Number of frames to answer before the camera ends; null is all of them.
        seconds: Time to run; null is for ever.
        target: Emulated device such as `snapdragon_625`, which answers some frames of a file in place of this one.
    """

    source: Any = MISSING
    capture: SourceConfig = field(default_factory=SourceConfig)
    detector: str | None = None
    reach: str = Reach.near.value
    recognizer: str | None = None
    gallery: str | None = None
    key: str | None = None
    far: float = 0.001
    margin: float = 0.05
    threads: int = 1
    quality: QualityConfig = field(default_factory=QualityConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    recognize: RecognizeConfig = field(default_factory=RecognizeConfig)
    outputs: OutputsConfig = field(default_factory=OutputsConfig)
    unknown: UnknownConfig = field(default_factory=UnknownConfig)
    web: WebConfig = field(default_factory=WebConfig)
    ota: OtaConfig = field(default_factory=OtaConfig)
    report: str | None = None
    frames: int | None = None
    seconds: float | None = None
    target: Any = None

    def __post_init__(self) -> None:
        choose("reach", Reach, self.reach)
        if self.threads < 1:
            raise ValueError(f"threads is 1 or more; got {self.threads}")
        if not 0 <= self.margin <= 2:
            raise ValueError(f"margin is a difference of cosines, 0 to 2; got {self.margin}")
        if (self.frames is not None and self.frames < 1) or (self.seconds is not None and not self.seconds > 0):
            raise ValueError(f"frames and seconds are above 0, or null; got {self.frames} and {self.seconds}")
        if self.unknown.keep and self.ota.on:
            raise ValueError(
                "unknown.keep and ota.url do not go together: the embeddings of kept faces would not be those of a new "
                "recognizer; choose one"
            )


ConfigStore.instance().store(group="schema", name="slimcam_camera", node=CameraConfig)


def main() -> None:
    """The console script."""
    if any(re.match(r"\+{0,2}target[=.]", word) for word in sys.argv[1:]):
        importlib.import_module(EMULATED).main()
    else:
        start(run)


def start(task: Callable[[CameraConfig], None]) -> None:
    """Gives a task the configuration that the command line asks for; its errors are a line each."""

    def configured(composed: DictConfig) -> None:
        if OmegaConf.is_missing(composed, "source"):
            if SOURCE_VARIABLE not in os.environ:
                raise ValueError(
                    "which camera? give source=0 for a webcam, source=FILE, source=FOLDER or source=rtsp://..."
                )
            composed.source = os.environ[SOURCE_VARIABLE]
        config: Any = OmegaConf.to_object(composed)
        if config.report:
            check_report(Path(config.report))
        task(config)

    application.run(
        configured,
        program="slimcam-camera",
        config_name="slimcam_camera",
        overrides=lambda words: with_texts(words, TEXTS, PATHS),
        renamed=RENAMED_OPTIONS,
    )


def run(config: CameraConfig) -> None:
    """Runs the camera until its source ends or it is told to; says what happens and, at the end, how fast it was.

    SIGTERM and Ctrl-C end it as the end of the source does, with its files whole.

    Raises:
        OSError, ValueError, ImportError, RuntimeError: something cannot be opened; the message says what to do.
    """
    bundles = {"detector": Path(config.detector or DETECTOR), "recognizer": Path(config.recognizer or RECOGNIZER)}
    updates = _updates(config, bundles) if config.ota.on else None
    if updates is not None:
        bundles = updates.folders
    detector = open_detector(bundles["detector"], threads=config.threads)
    recognizer = Recognizer(bundles["recognizer"], config.threads)
    tally, frames = Tally(), 0
    with ExitStack() as open_things:
        known = KnownPeople(
            recognizer, config.gallery, config.key, config.far, config.margin, config.quality, follows=config.ota.on
        )
        open_things.callback(known.close)
        source = open_things.enter_context(open_source(config.source, config.capture))
        ending = open_things.enter_context(_told_to_end(source.close, config.seconds))
        keeper = _keeper(config, recognizer) if config.unknown.keep else None

        def matcher() -> IdentityMatcher | None:
            # Without a gallery nothing is embedded, unless unknown faces are to be named.
            return known.matcher or (None if keeper is None else NobodyKnown())

        if keeper is not None:
            open_things.callback(keeper.close)
        recognition = RecognitionPipeline(
            detector,
            recognizer,
            matcher(),
            config.recognize,
            quality=config.quality,
            track=config.track,
            kind=source.kind,
            fps=source.fps,
            ended=None if keeper is None else keeper.ended,
            reach=Reach(config.reach),
        )
        update = None if updates is None else lambda: updates.status
        outputs = open_outputs(config.outputs, source.fps, str(config.source), update)
        open_things.callback(close_all, outputs)
        if config.web.port is not None:
            outputs.append(_page(config, known, lambda: source.state, update, keeper))
        see = recognition.see
        if updates is not None:
            updates.begin(recognition, known)
            open_things.callback(updates.close)
            see = updates.see
        watch = SourceWatch(source)

        def happened(status: SourceStatus | None, events: tuple[Event, ...]) -> None:
            if status is not None or events:
                for output in outputs:
                    output.notice(Notice(watch.status, events))
                for event in events:
                    tell(describe(event), logging.INFO)

        happened(watch.status, ())
        try:
            for frame in source.frames(POLL_SECONDS):
                status = watch.look(frame)
                if frame is None:
                    happened(status, recognition.lapse(time.monotonic()))
                    continue
                happened(status, ())
                if known.changed():
                    recognition.use(matcher())
                view = see(frame)
                for output in outputs:
                    output.show(view)
                for event in view.events:
                    tell(describe(event), logging.INFO)
                if frames == WARMUP:
                    tally = Tally()
                frames += 1
                tally.add(view)
                if ending() or frames == config.frames:
                    break
        except Stop:
            pass
        finally:
            with suppress(Stop):
                happened(watch.end(), recognition.end())
        told = ending()
        name = source.name
    if frames:
        warmup = frames - tally.frames
        if updates is not None:
            bundles["detector"], recognizer = updates.used
        detector_file = model_file(bundles["detector"])
        record = camera_record(tally, name, detector_file, recognizer, config.threads, warmup=warmup)
        if config.report:
            write_records([record], Path(config.report))
        # Where lines are written to the standard output, they are to be alone there.
        show(camera_table(record), to_stderr=config.outputs.lines == "-")
    elif not told:
        raise ValueError(f"{name}: no frame came")


def check_report(path: Path) -> None:
    """Finds out at the start, not after an hour, that a report cannot be written.

    Raises:
        OSError: it cannot.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"report={path} cannot be written: {error.strerror or error}") from error


def describe(event: Event) -> str:
    """An event in a line."""
    name = f" {event.identity.name}" if event.identity and event.identity.known else ""
    likeness = f" ({event.identity.score:.2f})" if event.identity and event.kind != "left" else ""
    return f"{event.seconds:8.2f} s  face {event.track} {event.kind}{name}{likeness}"


def _updates(config: CameraConfig, bundles: dict[str, Path]) -> Updates:
    from slimcam.deploy.camera.updates import Updates

    if wrong := [str(path) for path in bundles.values() if not is_bundle(path)]:
        raise ValueError(f"{wrong[0]} is no bundle: a camera that is updated needs bundles of both models")
    return Updates(config.ota, bundles, config.gallery, config.key, config.threads)


def _keeper(config: CameraConfig, recognizer: Recognizer) -> UnknownKeeper:
    gallery = Path(config.gallery) if config.gallery else default_gallery()
    folder = Path(config.unknown.folder) if config.unknown.folder else gallery.parent / "unknown"
    key = Path(config.key) if config.key else None
    unknown = config.unknown
    return UnknownKeeper(UnknownFaces(folder, key, recognizer.bundle.sha256, unknown.days, unknown.limit))


def _page(
    config: CameraConfig,
    known: KnownPeople,
    state: Callable[[], str],
    update: Callable[[], UpdateStatus] | None,
    keeper: UnknownKeeper | None,
) -> Output:
    from slimcam.deploy.camera.web.naming import Naming
    from slimcam.deploy.camera.web.server import Web

    naming = None if keeper is None else Naming(keeper, known)
    page = Web(config.web, known.open, known.enroll, state, update, naming)
    tell(f"the page is at {page.url}", logging.INFO)
    if config.web.open:
        webbrowser.open(page.url)
    return page


@contextmanager
def _told_to_end(close: Callable[[], None], seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or SIGINT came or the time is up; `close` is called then, and ends a wait for the next frame.

    After that both are ignored until the process ends: its report is still to be written.
    """
    told = False

    def end(*_: Any) -> None:
        nonlocal told
        if not told:
            told = True
            # In a thread: a handler may interrupt whoever holds the locks that closing takes.
            threading.Thread(target=close, daemon=True).start()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(seconds, end) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield lambda: told
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if told else handler)


if __name__ == "__main__":
    main()
