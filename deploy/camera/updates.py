"""The camera's part in an update: it switches to a release between two frames, watches it, and keeps it or goes back.

A thread looks at the server, in a child process, and loads models; the camera's own thread only exchanges references.
What is decided is written durably by the thread: a camera that dies in between finds the release in its window still.
"""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.known_people import KnownPeople, Prepared
from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.common.child import environment
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.ota.config import OtaConfig
from slimcam.deploy.ota.device.health import EARLY, Baseline, Health
from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.device.slots import Slots
from slimcam.deploy.ota.device.state import Installed, StateFile
from slimcam.deploy.ota.device.status import UpdateStatus, status_of
from slimcam.deploy.types import Frame, View
from slimcam.deploy.vision.detector import FittingDetector, open_detector
from slimcam.deploy.vision.detector_output import Faces

POLL_SECONDS = 0.5
"""Between two looks at the state, which another process may change."""

FIRST_RETRY = 30.0
"""Seconds after a look that failed; they double up to the usual time between looks."""

COMPARED = 10
"""Every so many frames of a window the detector before sees the frame too."""


@dataclass(frozen=True)
class Models:
    """The models that a camera uses.

    Attributes:
        folders: Folders of the bundles, by part.
        detector: Detector of the bundle.
        known: Recognizer, and who is known to it.
    """

    folders: dict[str, str]
    detector: FittingDetector
    known: Prepared


class Updates:
    """Updates of a running camera; see the module.

    Args:
        config: Options of the updates, with `on`.
        factory: Folders of the bundles that came with the software, by part.
        gallery, key: Files of gallery and key; `None` for the user's own.
        threads: Threads of each model.

    Raises:
        OSError: the folder cannot be used.
        ValueError: its state is damaged.
        ImportError: python-tuf is not installed.
    """

    def __init__(
        self, config: OtaConfig, factory: dict[str, Path], gallery: str | None, key: str | None, threads: int
    ) -> None:
        if config.url is not None and importlib.util.find_spec("tuf") is None:
            raise ImportError("ota.url needs python-tuf, which is not installed: pip install 'slimcam[ota]'")
        self._config, self._factory, self._threads = config, factory, threads
        self._gallery, self._key = gallery, key
        self._file = StateFile(config.path)
        self._slots = Slots(config.path, self._file)
        self._state, told = self._slots.start()
        if told:
            tell(told)
        self._looking = False
        self._trial: Installed | None = None
        self._baseline = Baseline(config.window)
        self._health: Health | None = None
        self._before: Models | None = None
        # Handed from one thread to the other, each a reference that one of them sets and the other takes.
        self._next: Models | None = None
        self._verdict: str | None = None
        self._settled = False
        self._told = ""  # the last line, which is not told again
        self._closing = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._work, name="updates", daemon=True)

    @property
    def folders(self) -> dict[str, Path]:
        """The bundles to start with, by part."""
        current = self._state.current
        return {part: self._slots.bundle(current, part) if current else path for part, path in self._factory.items()}

    @property
    def status(self) -> UpdateStatus:
        """From any thread."""
        health = self._health
        return status_of(self._state, self._looking, None if health is None else health.percent)

    @property
    def used(self) -> tuple[Path, Recognizer]:
        """The detector's bundle and the recognizer in use."""
        return Path(self._used.folders["detector"]), self._used.known.recognizer

    def begin(self, recognition: RecognitionPipeline, known: KnownPeople) -> None:
        """Begins to look; `recognition` has the models of `folders`."""
        self._recognition, self._known = recognition, known
        folders = {part: str(path) for part, path in self.folders.items()}
        self._used = Models(folders, recognition.detector, known.adopted())
        self._thread.start()

    # In the camera's thread

    def see(self, frame: Frame) -> View:
        """What is in a frame, by the models in use; a release that fails at it is ended, and those before answer."""
        if (prepared := self._next) is not None:
            self._next = None
            self._exchange(prepared)
        if self._health is None:
            view = self._recognition.see(frame)
            self._baseline.add(view.milliseconds)
            return view
        try:
            view = self._watched(frame, self._health)
        except (RuntimeError, ValueError) as error:
            self._go_back(f"it failed at a frame: {' '.join(str(error).split())}")
            return self._recognition.see(frame)
        verdict = self._health.verdict()
        if verdict:
            self._go_back(f"{verdict} ({self._health.figures()})")
        elif verdict is not None:
            tell(f"release {self._number} proved itself: {self._health.figures()}")
            self._health, self._verdict = None, ""
        return view

    def _exchange(self, models: Models) -> None:
        """Goes on with other models; a window begins unless they are those before."""
        same = self._used.known.recognizer.bundle.sha256 == models.known.recognizer.bundle.sha256
        self._known.adopt(models.known)
        embedder = models.known.recognizer
        self._recognition.change_models(models.detector, embedder, models.known.matcher, same)
        self._used = models
        if models is self._before:
            self._before, self._health = None, None
        else:
            assert self._trial is not None
            self._health = Health(self._baseline.p90(), self._config.window, self._trial.slowdown)

    def _watched(self, frame: Frame, health: Health) -> View:
        before, used = self._before, self._used
        assert before is not None
        heard = _Listening(used.detector, used.known.recognizer)
        self._recognition.detector = self._recognition.recognizer = heard
        try:
            view = self._recognition.see(frame)
        finally:
            self._recognition.detector, self._recognition.recognizer = used.detector, used.known.recognizer
        health.add(view.milliseconds)
        if health.frames % COMPARED == 0 and heard.image is not None:
            health.add_faces(before.detector.detect(heard.image).points, heard.faces)
        old, new = before.known, used.known
        if heard.look is not None and old.matcher is not None and new.matcher is not None:
            face, embedding = heard.look
            health.add_look(old.matcher.match(old.recognizer.embed(face)[0]), new.matcher.match(embedding))
        return view

    def _go_back(self, reason: str) -> None:
        assert self._before is not None
        self._exchange(self._before)
        self._verdict = reason

    # In the thread

    def _work(self) -> None:
        self._due, self._failures = time.monotonic(), 0
        while not self._closing.wait(POLL_SECONDS):
            self._step()

    def _step(self) -> None:
        try:
            self._conclude()
            self._state = self._file.read()
            if not self._settled and self._state.trial is None and self._before is None:
                # The gallery may be of a release that was in its window, if the power failed just when it was kept.
                self._settled = True
                self._known.follow(Recognizer(self._used.known.recognizer.bundle, check=False))
            if self._trial is None and self._baseline.frames >= EARLY:
                self._take_up()
            if self._config.url is not None and self._trial is None and time.monotonic() >= self._due:
                self._failures = 0 if self._look() else self._failures + 1
                every = self._config.every
                wait = min(FIRST_RETRY * 2 ** (self._failures - 1), every) if self._failures else every
                # Cameras that were switched on together do not ask together for ever.
                self._due = time.monotonic() + wait * random.uniform(0.9, 1.1)
        except (OSError, ValueError, RuntimeError) as error:
            line = " ".join(str(error).split())
            if self._told != line:
                self._told = line
                tell(f"updates: {line}")
            self._state = replace(self._state, error=line)

    def _take_up(self) -> None:
        """Loads a release that is ready, or was in its window when the camera ended, for the other thread to take."""
        trial, why = self._slots.switch()
        if trial is None:
            if why:
                tell(f"rolled back: {why}")
            self._state = self._file.read()
            return
        self._trial, self._state = trial, self._file.read()
        folders = {part: str(self._slots.bundle(trial, part)) for part in self._factory}
        try:
            detector = open_detector(folders["detector"], threads=self._threads)
            recognizer = Recognizer(folders["recognizer"], self._threads)
        except (OSError, ValueError, RuntimeError) as error:
            self._end(str(error))
            return
        try:
            known = self._known.prepare(recognizer)
        except (OSError, ValueError, RuntimeError) as error:
            self._end(f"the gallery cannot follow it: {error}", bad=False)
            return
        tell(f"release {trial.release} is tried for {self._config.window} frames")
        self._before, self._next = self._used, Models(folders, detector, known)

    def _end(self, reason: str, bad: bool = True) -> None:
        self._trial = None
        self._state = self._slots.roll_back(" ".join(reason.split()), bad)
        tell(f"rolled back: {self._state.error}")

    def _conclude(self) -> None:
        """Writes down what the window has shown."""
        verdict = self._verdict
        if verdict is None:
            return
        self._verdict = None
        number, self._settled = self._number, False
        if verdict:
            self._end(verdict)
            return
        try:
            self._known.follow(Recognizer(self._used.known.recognizer.bundle, check=False))
        except (OSError, ValueError, RuntimeError) as error:
            self._next = self._before
            self._end(f"the gallery cannot follow it: {error}", bad=False)
            return
        self._state, self._trial, self._before = self._slots.keep(), None, None
        self._baseline = Baseline(self._config.window)
        tell(f"release {number} is kept")

    @property
    def _number(self) -> int:
        return 0 if self._trial is None else self._trial.release

    def _look(self) -> bool:
        """Has a child process look at the server; whether it went well."""
        settings = Settings(
            url=str(self._config.url),
            root=str(self._config.root),
            folder=str(self._config.path),
            device=self._config.name,
            ring=self._config.ring,
            limit=self._config.limit,
            gallery=self._gallery,
            key=self._key,
            **{part: str(path) for part, path in self._factory.items()},
        )
        self._looking = True
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "slimcam.deploy.ota.device.update"],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C is the camera's
            ) as self._child:
                assert self._child.stdin is not None
                assert self._child.stdout is not None
                with self._child.stdin as stdin:
                    json.dump(asdict(settings), stdin)
                for line in map(str.rstrip, self._child.stdout):
                    if line != self._told:  # once, however often it is looked
                        self._told = line
                        tell(f"updates: {line}")
            return self._child.returncode == 0
        finally:
            self._looking, self._child = False, None
            self._state = self._file.read()

    def close(self) -> None:
        """Ends the thread and its child. A release in its window is in it again when the camera starts."""
        self._closing.set()
        if (child := self._child) is not None:
            child.terminate()
        if self._thread.is_alive():
            self._thread.join(10)
        self._conclude()
        self._slots.stop()


class _Listening:
    """The models of a release, which remembers what they made of a frame.

    Attributes:
        image: What the detector was shown first: the frame, or the whole of it at a smaller scale.
        faces: Points of the faces that were found in it, `(N, 5, 2)`.
        look: Aligned face that was embedded, `(1, 112, 112, 3)`, and its embedding `(E,)`.
    """

    def __init__(self, detector: FittingDetector, recognizer: Recognizer) -> None:
        self._detector, self._recognizer = detector, recognizer
        self.image: NDArray[np.uint8] | None = None
        self.faces = np.empty((0, 5, 2), np.float32)
        self.look: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None

    @property
    def input(self) -> tuple[int, int]:
        return self._detector.input

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        found = self._detector.detect(frame)
        if self.image is None:
            self.image, self.faces = frame, found.points
        return found

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        embeddings = self._recognizer.embed(images)
        self.look = images[:1], embeddings[0]
        return embeddings
