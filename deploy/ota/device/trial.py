"""Loads the bundles of a release in a process of its own, before the camera does: a model that crashes the runtime ends
the child alone.

    python -m slimcam.deploy.ota.device.trial

takes a JSON object on the standard input, see `Request`; the verdict comes out.

The golden vectors must come out as `slimcam.deploy.inference.model` wants it, and neither model may be slower than
signed, compared with the one in use on the same device, run by run in turn.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median

from slimcam.deploy.common.child import environment
from slimcam.deploy.inference.bundle import load_bundle
from slimcam.deploy.inference.model import BundledModel, Recognizer
from slimcam.deploy.inference.probe import expendable
from slimcam.deploy.ota.release import PARTS
from slimcam.deploy.vision.detector import open_detector

RUNS = 20
WARMUP = 3
SECONDS = 120
"""For the whole trial."""

NICE = 10
"""The camera goes first."""


@dataclass(frozen=True)
class Request:
    """What is to be tried.

    Attributes:
        candidate: Folders of the bundles of a release, by part.
        reference: Folders of the bundles in use, by part.
        slowdown: Percent of the latency of the reference that the candidate may have.
    """

    candidate: dict[str, str]
    reference: dict[str, str]
    slowdown: int


def try_release(request: Request, seconds: float = SECONDS) -> str:
    """Why a release is bad; empty if it is not.

    Raises:
        RuntimeError: the trial itself could not be made; the release may be as good as any.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "slimcam.deploy.ota.device.trial"],
            input=json.dumps(asdict(request)),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"it did not load and run within {seconds:.0f} s"
    if done.returncode == -signal.SIGKILL:
        # Of the kernel that is short of memory, or of a person; the number of attempts is limited elsewhere.
        raise RuntimeError("the trial was killed, for want of memory perhaps")
    if done.returncode < 0:
        return f"it crashed the runtime ({signal.Signals(-done.returncode).name})"
    try:
        verdict: dict[str, str] = json.loads(done.stdout)
        return verdict["bad"]
    except (ValueError, KeyError, TypeError) as error:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RuntimeError(f"the trial could not be made: {lines[-1][:300]}") from error


def verdict(request: Request) -> str:
    """The same, in this process.

    Raises:
        ImportError: no runtime is installed.
    """
    for part in PARTS:
        try:
            candidate = _model(part, request.candidate[part])
        except (ValueError, RuntimeError, OSError) as error:
            return str(error)
        reference = _model(part, request.reference[part])
        new, old = _interleaved(candidate, reference)
        if new > old * request.slowdown / 100:
            return (
                f"its {part} takes {1000 * new:.2f} ms, {100 * new / old:.0f} % of the one in use; "
                f"{request.slowdown} % are allowed"
            )
    return ""


def _model(part: str, folder: str) -> BundledModel:
    if part == "recognizer":
        return Recognizer(folder)
    open_detector(folder)  # its output must be a detector's
    return BundledModel(load_bundle(folder), "detection")


def _interleaved(one: BundledModel, other: BundledModel) -> tuple[float, float]:
    """Median seconds of each, in turn: what else the machine does meets both."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(WARMUP + RUNS):
        for model, times in zip((one, other), spent, strict=True):
            begin = time.perf_counter()
            model.output(model.bundle.golden_input[0])
            if number >= WARMUP:
                times.append(time.perf_counter() - begin)
    return median(spent[0]), median(spent[1])


if __name__ == "__main__":
    os.nice(NICE)
    expendable()
    print(json.dumps({"bad": verdict(Request(**json.load(sys.stdin)))}))
