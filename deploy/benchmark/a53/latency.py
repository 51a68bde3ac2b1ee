"""Milliseconds from what was executed: compute, memory, more threads, and the limit that the processor sets.

One thread: the cycles that the in-order pipeline needs for each block (`issue.py`) at the device's clock. In blocks
that do not prefetch for themselves, a cost for each simulated miss of the first-level cache that the second level
answers (in cycles: both run at the core's clock) and for each that memory answers (in nanoseconds, scaled by the
device's bandwidth). Blocks that prefetch (PRFM) hide the latency but not the bandwidth: an operator's prefetched
misses take no less than their share of the memory's time. And a cost for each call of a kernel that computes, which
stands for what is not modeled one by one: code that is not in the caches yet, page walks, mispredicted ends of loops.

The three costs and the error band are fitted by `fit.py`; `constants.json` holds them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slimcam.deploy.benchmark.a53.device import LOAD_BYTES, PEAK_MACS, REFERENCE_MEMORY_GBS, Device
from slimcam.deploy.benchmark.a53.issue import cycles
from slimcam.deploy.benchmark.a53.profile import Block, Profile, ProfiledOperator, Tensor, Use

CONSTANTS = Path(__file__).parent / "constants.json"
MODEL = "cortex-a53-inorder 1"
_ARITHMETIC = re.compile("^xnn_(?!xx?[0-9]*_).*ukernel")


@dataclass(frozen=True)
class Constants:
    """What is fitted.

    Attributes:
        l1_miss_cycles: Cycles of a first-level miss that the second level answers.
        l2_miss_ns: Nanoseconds of a line from the reference device's memory.
        call_cycles: Cycles of each call of a kernel that computes, beyond its blocks.
        band: Relative error below which 19 of 20 predictions for one thread are expected to stay.
        slowest_share: Share of the compute time that T threads do not shorten, where they are least efficient: it takes
            `share + (1 - share) / T`.
        quickest_share: The same where they are most efficient.
        memory_streams: How many threads' memory time overlaps at the best; at the worst it does not.
    """

    l1_miss_cycles: float
    l2_miss_ns: float
    call_cycles: float
    band: float
    slowest_share: float
    quickest_share: float
    memory_streams: float


@dataclass(frozen=True)
class OperatorCost:
    """What an operator takes on one thread.

    Attributes:
        cycles: Cycles of the pipeline.
        l1_misses: Misses that the second level answers, in blocks that do not prefetch.
        l2_misses: Misses that memory answers, in blocks that do not prefetch.
        prefetched_lines: Lines that memory answers, in blocks that prefetch.
        prefetching_cycles: Cycles of the pipeline in blocks that prefetch.
        calls: Calls of kernels that compute.
    """

    cycles: float
    l1_misses: int
    l2_misses: int
    prefetched_lines: int
    prefetching_cycles: float
    calls: int

    def compute_ms(self, device: Device, constants: Constants) -> float:
        return (self.cycles + self.calls * constants.call_cycles) / device.clock_mhz / 1e3

    def memory_ms(self, device: Device, constants: Constants) -> float:
        near = self.l1_misses * constants.l1_miss_cycles / device.clock_mhz / 1e3
        return near + self.l2_misses * line_ns(device, constants) / 1e6 + self.late_ms(device, constants)

    def late_ms(self, device: Device, constants: Constants) -> float:
        """Time for which blocks that prefetch wait all the same, because memory is not quick enough."""
        fetched = self.prefetched_lines * line_ns(device, constants) / 1e6
        return max(0.0, fetched - self.prefetching_cycles / device.clock_mhz / 1e3)

    def ms(self, device: Device, constants: Constants) -> float:
        return self.compute_ms(device, constants) + self.memory_ms(device, constants)


def line_ns(device: Device, constants: Constants) -> float:
    """Of a cache line from the device's memory."""
    return constants.l2_miss_ns * REFERENCE_MEMORY_GBS / device.memory_gbs


def read_constants(path: Path = CONSTANTS) -> Constants:
    """The fitted constants."""
    return Constants(**json.loads(path.read_text())["constants"])


def operator_cost(profile: Profile, operator: ProfiledOperator) -> OperatorCost:
    """Adds up what an operator's blocks take."""
    return cost_of(profile.blocks, operator.uses)


def cost_of(blocks: Sequence[Block], uses: Iterable[Use]) -> OperatorCost:
    """Adds up what some blocks take."""
    total = prefetching = 0.0
    l1_misses = l2_misses = prefetched = calls = 0
    for use in uses:
        block = blocks[use.block]
        took = use.runs * cycles(block.code)
        total += took
        # A kernel returns once from each call. Those that move data are called for every few bytes and stay warm.
        if _ARITHMETIC.search(block.symbol) and block.code[-1] == "ret":
            calls += use.runs
        if block.prefetches:
            prefetching += took
            prefetched += use.l2_misses
        else:
            l1_misses += use.l1_misses - use.l2_misses
            l2_misses += use.l2_misses
    return OperatorCost(total, l1_misses, l2_misses, prefetched, prefetching, calls)


def predict_ms(profile: Profile, device: Device, constants: Constants) -> float:
    """Latency on one thread."""
    return sum(operator_cost(profile, operator).ms(device, constants) for operator in profile.operators)


def predict_threads_ms(profile: Profile, device: Device, constants: Constants, threads: int) -> tuple[float, float]:
    """The interval in which the latency on some threads is expected, for a one-thread latency that is exact.

    The quick end splits each operator into the tiles that there are and lets `memory_streams` threads wait for memory
    at once; the slow end shares less and lets one thread wait at a time. What TFLite runs itself stays on one thread.

    Raises:
        ValueError: fewer than one thread, or more than the device has cores.
    """
    if not 1 <= threads <= device.cores:
        raise ValueError(f"{device.name} has {device.cores} cores: ask for 1 to {device.cores} threads, not {threads}")
    low = high = 0.0
    for place, operator in enumerate(profile.operators):
        each = operator_cost(profile, operator)
        compute, memory = each.compute_ms(device, constants), each.memory_ms(device, constants)
        alone = operator.kind == "overhead" or any(entry.split()[0] == str(place) for entry in profile.left_out)
        share = 1 if alone else min(threads, tiles(operator))
        low += compute * _scaled(share, constants.quickest_share) + memory / min(share, constants.memory_streams)
        high += compute * _scaled(share, constants.slowest_share) + memory
    return low, high


def _scaled(threads: int, fixed: float) -> float:
    return fixed + (1 - fixed) / threads


def tiles(operator: ProfiledOperator) -> int:
    """Pieces into which XNNPACK can split an operator among threads, roughly: tiles of a matrix product, rows of a
    convolution by channel or of a pooling, 4 kB of an elementwise operator."""
    shape = operator.output.shape
    if operator.kind in ("CONV_2D", "FULLY_CONNECTED"):
        rows, columns = (6, 8) if operator.output.dtype == "float32" else (4, 16)
        return max(1, math.ceil(math.prod(shape[:-1]) / rows) * math.ceil(shape[-1] / columns))
    if operator.kind in ("DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD") and len(shape) == 4:
        return max(1, shape[1])
    return max(1, size_bytes(operator.output) // 4096)


def roof_ms(operator: ProfiledOperator, device: Device, weights_fit: bool) -> float:
    """The least that one core can take for an operator.

    The largest of: its multiply-adds at the peak rate, its data once through the load port, and its weights once from
    memory at the device's whole bandwidth, unless all weights of the model fit into the second-level cache.
    """
    kernel = weights(operator)
    dtype = kernel.dtype if kernel else operator.output.dtype
    arithmetic = macs(operator) / PEAK_MACS.get(dtype, PEAK_MACS["float32"]) / device.clock_mhz / 1e3
    moved = sum(map(size_bytes, operator.inputs))
    port = moved / LOAD_BYTES / device.clock_mhz / 1e3
    memory = 0.0 if weights_fit or not kernel else size_bytes(kernel) / device.memory_gbs / 1e6
    return max(arithmetic, port, memory) if operator.kind not in ("RESHAPE", "overhead") else 0.0


def macs(operator: ProfiledOperator) -> int:
    """Multiply-adds of a convolution or dense operator, padding included; 0 for others."""
    kernel = weights(operator)
    if kernel is None:
        return 0
    outputs = math.prod(operator.output.shape)
    return outputs * math.prod(kernel.shape[1:3] if operator.kind == "DEPTHWISE_CONV_2D" else kernel.shape[1:])


def weights(operator: ProfiledOperator) -> Tensor | None:
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and len(operator.inputs) > 1:
        return operator.inputs[1]
    return None


def weights_bytes(profile: Profile) -> int:
    """Bytes of all kernels of a model."""
    return sum(size_bytes(kernel) for operator in profile.operators if (kernel := weights(operator)))


def size_bytes(tensor: Tensor) -> int:
    width = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "int16": 2}.get(tensor.dtype, 1)
    return math.prod(tensor.shape) * width
