"""What happens before the camera, as JSON lines (https://jsonlines.org): one object a line, in ASCII.

A line of an event:

    kind        appeared, recognised, unknown or left
    track       number of the face over time, from 1
    person      id of the person in the gallery, or null
    name        of the person, or null
    score       cosine with the best template, or null where nothing is known of the face
    margin      how much better that is than the best of another person, or null
    seconds     of the frame since the first one; in a file, of the clip
    at          Unix time, seconds
    time        the same in ISO 8601, UTC

A line of a frame:

    frame       its number, from 0
    seconds, at, time   as above, of its capture
    lost        frames dropped since the one handed out before
    milliseconds    what each stage took, by its name
    faces       list of: track, score (0..1, of the detector), points ([[x, y] x 5], pixels), flaws (list of words),
                identity (null, or person, name, score and margin as above)
    events      list of: objects as the lines of events

Numbers that are not finite are null.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from slimcam.deploy.camera.outputs.output import Stop
from slimcam.deploy.types import Event, Identity, Notice, Sighting, View


class Lines:
    """Adds lines to a file, or to the standard output, each whole and at once.

    A reader of a pipe that is slower than the camera slows it down. A new file can be read by its owner alone. A file
    that was renamed or removed is created again with the next line.

    Args:
        path: `-` is the standard output.
        of: `events` or `frames`.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, of: str = "events") -> None:
        self._path, self._of = path, of
        if path == "-":
            if sys.stdout is None:
                raise OSError(errno.EBADF, "the standard output is closed", path)
            sys.stdout.flush()  # what was printed before comes first
            self._file = os.dup(sys.stdout.fileno())
            return
        self._open()

    def show(self, view: View) -> None:
        """See `Output`.

        Raises:
            OSError: the disk is full, for example; what was written of the lines is taken back.
            Stop: the reader of the standard output is gone.
        """
        self._add([frame_record(view)] if self._of == "frames" else [event_record(event) for event in view.events])

    def notice(self, notice: Notice) -> None:
        """See `Output`; a line of a frame is of a frame alone.

        Raises: as `show`.
        """
        self._add([] if self._of == "frames" else [event_record(event) for event in notice.events])

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if self._regular() and _torn(self._path):
            self._write(b"\n")

    def _follow(self) -> None:
        """Reopens the file where another one, or none, has its name now: logrotate renames the one that is full."""
        mine = os.fstat(self._file)
        try:
            there = Path(self._path).stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self.close()
            self._open()

    def _add(self, records: list[dict[str, Any]]) -> None:
        try:
            if records and self._path != "-":
                self._follow()
            for record in records:
                self._write(as_json(record) + b"\n")
        except BrokenPipeError as error:
            if self._path == "-":
                raise Stop("nobody reads the lines any more") from error
            raise

    def close(self) -> None:
        """See `Output`."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                written = os.write(self._file, line[done:])
                if not written:
                    raise OSError(errno.EIO, "nothing was written", self._path)
                done += written
        except OSError as error:
            if done and self._regular():
                os.ftruncate(self._file, os.fstat(self._file).st_size - done)
            error.filename = self._path
            raise

    def _regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self._file).st_mode)


def event_record(event: Event) -> dict[str, Any]:
    """What a line tells of an event, see the module."""
    return {
        "kind": event.kind,
        "track": event.track,
        **_identity(event.identity),
        "seconds": _number(event.seconds, 3),
        **times(event.at),
    }


def frame_record(view: View) -> dict[str, Any]:
    """What a line tells of a frame, see the module."""
    frame = view.frame
    return {
        "frame": frame.number,
        "seconds": _number(frame.seconds, 3),
        **times(time.time() - time.monotonic() + frame.captured),
        "lost": frame.lost,
        "milliseconds": {stage: _number(spent, 3) for stage, spent in view.milliseconds.items()},
        "faces": [_face(sighting) for sighting in view.sightings],
        "events": [event_record(event) for event in view.events],
    }


def times(at: float) -> dict[str, Any]:
    """Unix time as `at`, seconds, and as `time`, ISO 8601 in UTC; both null where it is none."""
    try:
        text = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return {"at": None, "time": None}
    return {"at": round(float(at), 3), "time": text}


def as_json(record: dict[str, Any]) -> bytes:
    """On one line and in ASCII, so that no name can break a line, whatever its reader takes for an end of line."""
    return json.dumps(record, allow_nan=False, separators=(",", ":")).encode("ascii")


def clean(name: str | None) -> str | None:
    """A name without halves of surrogate pairs, which strict readers of JSON refuse; each becomes U+FFFD."""
    return name and name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _torn(path: str) -> bool:
    """Whether a file ends within a line: the machine may have lost power while it was written."""
    with Path(path).open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def _face(sighting: Sighting) -> dict[str, Any]:
    return {
        "track": sighting.track,
        "score": _number(sighting.score, 4),
        "points": [[_number(x, 1), _number(y, 1)] for x, y in sighting.points.tolist()],
        "flaws": list(sighting.quality_issues),
        "identity": _identity(sighting.identity) if sighting.identity else None,
    }


def _identity(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return {"person": None, "name": None, "score": None, "margin": None}
    return {
        "person": identity.person,
        "name": clean(identity.name),
        "score": _number(identity.score, 4),
        "margin": _number(identity.margin, 4),
    }


def _number(value: float, digits: int) -> float | None:
    value = float(value)  # NumPy's own numbers are not JSON's
    return round(value, digits) if math.isfinite(value) else None
