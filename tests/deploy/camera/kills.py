"""`kill -9` of the whole camera at random moments: what is on the disk is whole, and it starts again.

    python -m tests.deploy.camera.kills CLIP [KILLS] [SEED]     200 kills take about a quarter of an hour

CLIP is of `slimcam.training.tools.demo_clip`. Each round a camera starts, with its page, JSON lines of frames, a video,
unknown faces that are kept, and people enrolled, renamed and forgotten by way of its page. Every third one is killed
while it starts, the others while people are changed. Every tenth round begins in an empty folder, so that the making of
key and gallery is killed too. Then what it left is looked at, see `Home.look`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import cv2

from slimcam.deploy.apps.camera import main
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.unknown_faces import UnknownFaces
from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from tests.deploy.camera.soak import free_port

CHANGES, RUNNING = 4, 0.5
"""A camera that answers is killed after fewer changes than these, and at most so many seconds."""

STARTING = 600.0
"""Seconds that a camera may take to answer on a machine that is busy."""

CODE = ("slimcam.deploy.apps.camera", "slimcam.deploy.camera.web.naming", "slimcam.deploy.camera.web.server")
"""Modules that a camera of these options loads."""

PLAYS = 1 << 18
"""Bytes from which on a video that broke off must play: OpenCV writes in blocks."""


@dataclass
class Change:
    """One of the people in the gallery that was asked for and not yet answered: `enroll`, `rename` or `forget`."""

    action: str
    person: str = ""
    name: str = ""


@dataclass
class Home:
    """The folders of a camera, and what its owner was told of them.

    Attributes:
        folder: Empty at first.
        known: Names of the people that are enrolled, by id, as far as the page has acknowledged it.
        asked: What was asked for last and not answered.
        lines: Number of the JSON lines that there were.
        videos: Those that there were.
        counts: What was found.
    """

    folder: Path
    known: dict[str, str] = field(default_factory=dict)
    asked: Change | None = None
    lines: int = 0
    videos: set[Path] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def options(self) -> list[str]:
        names = {"gallery": "data/gallery.db", "key": "key/gallery.key", "report": "report.json"}
        names |= {"outputs.lines": "lines.jsonl", "outputs.video": "seen.mkv"}
        return [f"{option}={self.folder / name}" for option, name in names.items()]

    @property
    def log(self) -> Path:
        """What the cameras said."""
        return self.folder / "log"

    def said(self) -> str:
        """The end of the log."""
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def look(self, model: str, size: int) -> None:
        """Looks at what a camera left that was killed.

        Args:
            model: SHA-256 of its recognizer.
            size: Length of its embeddings.

        Raises:
            AssertionError, ValueError, OSError: something is there by half, or lacks what was acknowledged.
        """
        self._lines()
        self._video()
        gallery = self.folder / "data/gallery.db"
        self.counts["journals"] += gallery.with_name("gallery.db-journal").exists()
        if gallery.exists():
            with Gallery(gallery, model, size, self.folder / "key/gallery.key") as opened:
                people = {person.id: person.name for person in opened.people()}
                for id in people:
                    assert opened.templates(id), f"{id} has no template"
                audited = Counter(entry.action for entry in opened.audit())
            assert audited["enrol"] - audited["forget"] == len(people), "the audit log tells of other people"
            self._compare(people)
        else:
            assert not self.known, "the gallery is gone"
        self._unknown(model)
        hidden = [path for path in self.folder.rglob(".*") if path.is_file()]
        self.counts["temporary files"] += len(hidden)
        for path in hidden:
            path.unlink()

    def _compare(self, people: dict[str, str]) -> None:
        expected, asked = dict(self.known), self.asked
        if asked is not None:
            more = people.keys() - expected.keys()
            if asked.action == "enroll" and len(more) == 1 and people[next(iter(more))] == asked.name:
                expected[next(iter(more))] = asked.name
            elif asked.action == "rename" and people.get(asked.person) == asked.name:
                expected[asked.person] = asked.name
            elif asked.action == "forget" and asked.person not in people:
                del expected[asked.person]
            self.counts["changes committed without an answer"] += expected != self.known
        assert people == expected, f"acknowledged were {self.known}, asked for was {asked}, there are {people}"
        self.known, self.asked = people, None

    def _lines(self) -> None:
        path = self.folder / "lines.jsonl"
        content = path.read_bytes() if path.exists() else b""
        assert content.endswith(b"\n") or not content, "the last line broke off"
        lines = content.splitlines()
        for line in lines:
            assert "faces" in json.loads(line)
        assert len(lines) >= self.lines, "lines are gone"
        self.counts["lines"] += len(lines) - self.lines
        self.lines = len(lines)

    def _video(self) -> None:
        videos = set(self.folder.glob("seen*.mkv"))
        assert self.videos <= videos, "a video is gone"
        for path in videos - self.videos:
            if path.stat().st_size >= PLAYS:
                video = cv2.VideoCapture(str(path))
                assert video.read()[0], f"{path.name} does not play"
                video.release()
                self.counts["videos that play"] += 1
        self.videos = videos

    def _unknown(self, model: str) -> None:
        folder, key = self.folder / "data/unknown", self.folder / "key/gallery.key"
        whole = [path for path in folder.glob("*.face") if re.fullmatch("[0-9a-f]{32}", path.stem)]
        if whole:
            kept = UnknownFaces(folder, key, model, 7, 200).faces()
            assert len(kept) == min(len(whole), 200), f"of {len(whole)} unknown faces {len(kept)} can be read"
        self.counts["most unknown faces"] = max(self.counts["most unknown faces"], len(whole))


def prove(clip: str, kills: int, seed: int, scratch: Path) -> str:
    """Kills a camera so often; a line with what was found.

    Raises:
        AssertionError, ValueError, OSError: it did not start, or left something by half; the message says what.
    """
    rng, counts, port = random.Random(seed), Counter[str](), free_port()
    recognizer = Recognizer(RECOGNIZER)
    # Forked from a process that has loaded the code: loading it is most of what a start costs, and touches no file.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["__main__", *CODE])
    start, home = 1.0, Home(scratch)
    for number in range(kills + 1):
        if number % 10 == 0 and number < kills:
            home = Home(scratch / str(number), counts=counts)
            home.folder.mkdir()
        words = [f"source={clip}", "capture.realtime=true", "capture.loop=true", f"web.port={port}"]
        words += [*home.options, "outputs.lines_of=frames", "unknown.keep=true"]
        words += ["frames=20"] if number == kills else []
        begin = time.monotonic()
        camera = processes.Process(target=life, args=(words, home.log))
        camera.start()
        try:
            if number == kills:
                camera.join(STARTING)
            elif number % 3 == 0:
                time.sleep(rng.uniform(0, 1.2 * start))
            else:
                assert answering(port, camera), f"round {number}: it did not start: {home.said()}"
                start = time.monotonic() - begin
                work(home, port, rng, camera)
        finally:
            killed = camera.is_alive()
            camera.kill()
            camera.join()
        assert killed or camera.exitcode in (-signal.SIGKILL, 0 if number == kills else -signal.SIGKILL), home.said()
        assert "Traceback" not in home.said(), home.said()
        home.look(recognizer.bundle.sha256, recognizer.embedding_size)
        counts["kills"] += number < kills
        if number % 10 == 9:
            print(found(counts), file=sys.stderr, flush=True)
    assert json.loads((home.folder / "report.json").read_text()), "no report"
    assert (home.folder / "seen.mkv").exists(), "no video"
    return found(counts)


def life(words: list[str], log: Path) -> None:
    """A camera with these options, until it ends or is killed."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["slimcam-camera", *words]
    main()


def found(counts: Counter[str]) -> str:
    """Counts in a line."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def answering(port: int, camera: BaseProcess) -> bool:
    """Whether the page has a picture to show, before the camera ends or `STARTING` is over."""
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and camera.is_alive():
        try:
            if ask(port, "GET", "state")["frame"]:
                return True
        except (OSError, HTTPException):
            pass
        time.sleep(0.05)
    return False


def work(home: Home, port: int, rng: random.Random, camera: BaseProcess) -> None:
    """Changes people by way of the page, and kills the camera during the change that a die decides on."""
    try:
        for _ in range(rng.randrange(CHANGES)):
            change(home, port, rng)
        threading.Timer(rng.uniform(0, RUNNING), camera.kill).start()
        while camera.is_alive():
            change(home, port, rng)
    except (OSError, HTTPException):  # it broke off: the camera is gone
        camera.join(STARTING)


def change(home: Home, port: int, rng: random.Random) -> None:
    """Asks for one change of the people, and keeps what is answered."""
    name = f"Person {rng.randrange(10**9)}"
    person = rng.choice(sorted(home.known)) if home.known else ""
    action = "enroll" if not person else rng.choice(("enroll", "rename", "forget"))
    try:
        if action == "enroll":
            still = ask(port, "POST", "snapshots")
            if still["faces"]:
                body = {"snapshot": still["snapshot"], "track": still["faces"][0]["track"], "name": name}
                home.asked = Change("enroll", name=name)
                found = ask(port, "POST", "people", {**body, "consent": "drawn", "person": "new"})
                home.known[found["id"]] = name
        elif action == "rename":
            home.asked = Change("rename", person, name)
            ask(port, "PATCH", f"people/{person}", {"name": name})
            home.known[person] = name
        else:
            home.asked = Change("forget", person)
            ask(port, "DELETE", f"people/{person}")
            del home.known[person]
        home.counts["changes acknowledged"] += home.asked is not None
    except HTTPError as error:
        if error.code not in (409, 422):  # the view is not fit
            raise AssertionError(f"{action}: {error.code} {error.read().decode()}") from error
    home.asked = None


def ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the page answers.

    Raises:
        HTTPError: it refuses.
        OSError, HTTPException: it is not there any more.
    """
    headers = {"X-Slimcam": "1", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/{path}", content, headers, method=method)
    with urllib.request.urlopen(request, timeout=STARTING) as answer:
        return json.loads(answer.read() or b"null")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="slimcam-kills-") as folder:
        numbers = [int(word) for word in sys.argv[2:]] + [200, 0][len(sys.argv) - 2 :]
        print(prove(sys.argv[1], *numbers, Path(folder)))
