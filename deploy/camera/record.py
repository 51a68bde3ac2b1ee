"""The record of a camera's run: the latency of each stage, in the schema of the benchmarks."""

from __future__ import annotations

import random
import time
from pathlib import Path

from slimcam.deploy.common.text_table import grid
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.latency.machine import read_condition, read_machine
from slimcam.deploy.latency.provenance import execution, identify, now_utc, own_version
from slimcam.deploy.latency.record import CameraRun, Latency, Record
from slimcam.deploy.latency.start import peak_rss_bytes
from slimcam.deploy.latency.statistics import latency, validity_warnings
from slimcam.deploy.latency.table import record_summary
from slimcam.deploy.types import STAGES, View

SAMPLES = 20_000


class Reservoir:
    """A fair sample of a stream whose end nobody knows (Vitter 1985, "Random sampling with a reservoir", algorithm R).

    A camera runs for months; its memory must not grow with them.

    Args:
        size: Size of the sample.
        seed: Seed of the choice.
    """

    def __init__(self, size: int = SAMPLES, seed: int = 0) -> None:
        self.size, self.values, self.count = size, list[float](), 0
        self._random = random.Random(seed)

    def add(self, value: float) -> None:
        self.count += 1
        if len(self.values) < self.size:
            self.values.append(value)
        elif (place := self._random.randrange(self.count)) < self.size:
            self.values[place] = value


class Tally:
    """What a camera did so far, as it is told view by view."""

    def __init__(self) -> None:
        self.before = read_condition()
        self.frames = self.lost = self.faces = 0
        self.stages = {stage: Reservoir() for stage in STAGES}
        self._begin = self._end = time.monotonic()

    def add(self, view: View) -> None:
        self.frames += 1
        self.lost += view.frame.lost
        self.faces += len(view.sightings)
        self._end = time.monotonic()
        for stage, spent in view.milliseconds.items():
            self.stages[stage].add(spent)

    @property
    def seconds(self) -> float:
        """From the start to the last frame."""
        return self._end - self._begin

    def latencies(self) -> dict[str, Latency]:
        """Of each stage that had something to do."""
        return {stage: latency(found.values) for stage, found in self.stages.items() if found.count}


def camera_record(
    tally: Tally, source: str, detector: Path, recognizer: Recognizer, threads: int, *, warmup: int = 0
) -> Record:
    """The record of a run.

    Args:
        source: Name of the source, without credentials.
        detector: File of the detector's model.
        threads: Threads of each model.
        warmup: Frames before the first that was tallied.

    Raises:
        ValueError: no frame was answered.
    """
    if not tally.frames:
        raise ValueError("no frame was answered: there is nothing to report")
    machine, after = read_machine(), read_condition()
    executed = execution(recognizer.interpreter, threads, None)
    stages = tally.latencies()
    result = stages["result"]
    version, commit = own_version()
    return Record(
        target="camera",
        model=identify("recognizer", recognizer.bundle.model),
        execution=executed,
        machine=machine,
        before=tally.before,
        after=after,
        warmup=warmup,
        samples=tally.frames,
        seconds=round(tally.seconds, 3),
        interleaved=[],
        latency_ms=result,
        start=None,
        validity=validity_warnings(tally.frames, result, executed, machine, tally.before, after),
        version=version,
        commit=commit,
        time_utc=now_utc(),
        camera=CameraRun(
            source=source,
            detector=identify("detector", detector),
            frames=tally.frames,
            lost=tally.lost,
            fps=round(tally.frames / max(tally.seconds, 1e-9), 2),
            faces=round(tally.faces / tally.frames, 3),
            stages=stages,
            peak_rss_bytes=peak_rss_bytes(),
        ),
    )


def camera_table(record: Record) -> str:
    """The milliseconds of each stage as text."""
    run = record.camera
    assert run is not None
    head = ("stage", "p50 ms", "p90 ms", "p99 ms", "max ms")
    rows = [
        (stage, *("-" if value is None else f"{value:.2f}" for value in (found.p50, found.p90, found.p99, found.max)))
        for stage, found in run.stages.items()
    ]
    memory = "" if run.peak_rss_bytes is None else f", at most {run.peak_rss_bytes / 1e6:.0f} MB of memory"
    faces = f"{run.faces:.2f} faces in a mean frame"
    line = f"{record_summary(record)}: {run.fps:g} frames a second, {run.lost:,} lost, {faces}{memory}"
    return "\n".join([line, grid([head, *rows]), *record.validity])
