"""Statistics of samples, and validity warnings about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slimcam.deploy.latency.record import Condition, Execution, Latency, Machine

# A p90 this far above the p50 says that something else was using the machine.
NOISY_RATIO = 1.5
# A clock that fell, or a median that rose, by more than this fraction during the run was throttled.
THROTTLED = 0.1
# Below this many samples, the 99th percentile is the maximum under another name.
P99_SAMPLES = 100


def latency(samples_ms: Sequence[float]) -> Latency:
    """Sums up the milliseconds of each sample; percentiles are interpolated linearly.

    Raises:
        ValueError: there are no samples.
    """
    if not len(samples_ms):
        raise ValueError("no latency samples were taken; ask for 1 or more")
    p50, p90, p99 = np.percentile(samples_ms, [50, 90, 99])
    return Latency(
        mean=round(float(np.mean(samples_ms)), 4),
        min=round(float(np.min(samples_ms)), 4),
        p50=round(float(p50), 4),
        p90=round(float(p90), 4),
        p99=round(float(p99), 4),
        max=round(float(np.max(samples_ms)), 4),
    )


def slowdown(samples_ms: Sequence[float]) -> float:
    """By what fraction the median of the last quarter of the samples lies above that of the first.

    It shows throttling on machines whose clock cannot be read. 0 where there are too few samples to tell.
    """
    quarter = len(samples_ms) // 4
    if quarter < P99_SAMPLES // 4:
        return 0.0
    return float(np.median(samples_ms[-quarter:]) / np.median(samples_ms[:quarter])) - 1


def validity_warnings(
    samples: int,
    latency_ms: Latency,
    execution: Execution,
    machine: Machine,
    before: Condition,
    after: Condition,
    slower: float = 0.0,
) -> list[str]:
    """Validity warnings of a measurement, one line each.

    Args:
        samples: Number of samples.
        latency_ms: Their percentiles.
        execution: What executed the model.
        machine: What it ran on.
        before: State of the machine before the first sample.
        after: State of the machine after the last sample.
        slower: Result of `slowdown`.
    """
    found = []
    if samples < P99_SAMPLES and latency_ms.p99 is not None:
        found.append(f"{samples} samples are too few for a p99; take {P99_SAMPLES} or more")
    if latency_ms.p50 is not None and latency_ms.p90 is not None and latency_ms.p90 > NOISY_RATIO * latency_ms.p50:
        found.append(f"noisy: p90 is {latency_ms.p90 / latency_ms.p50:.1f} times p50; stop what else uses the machine")
    usable = machine.processors if machine.affinity is None else len(machine.affinity)
    if execution.affinity is not None:
        usable = min(usable, len(execution.affinity))
    if execution.threads > usable:
        found.append(f"{execution.threads} threads on {usable} usable processors")
    left = execution.operators - (
        execution.operators if execution.delegated_operators is None else execution.delegated_operators
    )
    if left:
        names = f": {', '.join(execution.left_out)}" if execution.left_out else ""
        found.append(f"{left} of {execution.operators} operators ran outside the delegate{names}")
    if before.frequency_mhz and after.frequency_mhz and after.frequency_mhz < (1 - THROTTLED) * before.frequency_mhz:
        found.append(f"throttled: the clock fell from {before.frequency_mhz:.0f} to {after.frequency_mhz:.0f} MHz")
    elif slower > THROTTLED:
        found.append(f"throttled or disturbed: the last quarter of the samples is {100 * slower:.0f} % slower")
    return found
