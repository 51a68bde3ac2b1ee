"""How much of a measured latency is the measuring itself.

    python -m slimcam.deploy.latency.overhead MODEL.tflite [SECONDS]

Blocks of inferences are timed in turn in two ways: as `host` does it, one by one, and as a whole between two readings
of the clock. The ratio of the two, pair by pair, is what clock, pinning and bookkeeping add; the machine's other load
hits both alike.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.latency.host import HostConfig, Run, confined, prepare_runs, sample

BLOCK = 40


@dataclass(frozen=True)
class Overhead:
    """The ratio of latencies measured one by one to those measured as a whole.

    Attributes:
        pairs: Number of pairs of blocks.
        ratio: Median ratio of the pairs; 1.01 is 1 % of overhead.
        low: Lower end of the ratio's 95 % bootstrap interval.
        high: Upper end of that interval.
        clock_ns: Median nanoseconds between two readings of the clock.
    """

    pairs: int
    ratio: float
    low: float
    high: float
    clock_ns: float


def overhead(model: Path, seconds: float = 60.0) -> Overhead:
    """Compares the two ways of timing for some seconds.

    Raises:
        OSError, ValueError, RuntimeError: as `host.measure` does for a model that is missing or refused.
    """
    config = HostConfig(warmup=0, samples=BLOCK, seconds=0.0)
    (run,) = prepare_runs({"model": model}, config)
    sample([run], config)
    ratios: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not ratios:
        run.samples.clear()
        sample([run], config)
        ratios.append(float(np.mean(run.samples)) / _whole(run))
    draws = np.random.default_rng(0).choice(ratios, (1000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    readings = [time.perf_counter_ns() for _ in range(1001)]
    return Overhead(len(ratios), float(np.median(ratios)), float(low), float(high), float(np.median(np.diff(readings))))


def _whole(run: Run) -> float:
    """Mean milliseconds of a block of inferences between two readings of the clock."""
    with confined(run.processors):
        run.interpreter.invoke()
        begin = time.perf_counter_ns()
        for _ in range(BLOCK):
            run.interpreter.invoke()
        return (time.perf_counter_ns() - begin) / 1e6 / BLOCK


if __name__ == "__main__":
    log_to_console()
    try:
        found = overhead(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        sys.exit(f"overhead: {error}")
    show(
        f"{found.pairs} pairs of {BLOCK} inferences: one by one is {found.ratio:.4f} times as a whole "
        f"(95 % interval {found.low:.4f} to {found.high:.4f}); a reading of the clock takes {found.clock_ns:.0f} ns"
    )
