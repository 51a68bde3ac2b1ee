"""Milliseconds of a camera's stages, from what each executed.

The timing model is that of `latency.py`, which was fitted to the kernels of models: its costs also stand for code that
has to be fetched and for branches that were not expected. Of the interpreter of Python, OpenCV and numpy both are
simulated and added; nobody has measured how well that predicts them. So their band reaches from the least, without
these additions, to the most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slimcam.deploy.benchmark.a53.camera_trial import COUNTED, stage_of
from slimcam.deploy.benchmark.a53.device import Device
from slimcam.deploy.benchmark.a53.dump import PARTS, part
from slimcam.deploy.benchmark.a53.latency import Constants, cost_of, line_ns
from slimcam.deploy.benchmark.a53.profile import Block, Stretch, Use
from slimcam.deploy.latency.record import Estimate

MISPREDICTED_CYCLES = 9
"""LLVM's AArch64SchedA53.td, MispredictPenalty."""


@dataclass(frozen=True)
class StagePrediction:
    """A stage on one core, means of the frames.

    Attributes:
        name: Name of the stage.
        ms: Predicted milliseconds.
        instructions: Executed instructions.
        parts: Executed instructions by code, see `slimcam.deploy.benchmark.a53.dump.PARTS`.
    """

    name: str
    ms: Estimate
    instructions: int
    parts: dict[str, int]


@dataclass(frozen=True)
class RatePrediction:
    """Frames with so many faces, reading them not included.

    Attributes:
        faces: Number of faces.
        frames: Number of frames with so many faces.
        embedded: Number of these frames in which a face was embedded.
        ms: Mean milliseconds of a frame.
        slowest_ms: Milliseconds of the slowest frame.
        fps: Frames per second.
    """

    faces: int
    frames: int
    embedded: int
    ms: Estimate
    slowest_ms: float
    fps: Estimate


def predict_stages(
    blocks: Sequence[Block],
    stretches: Sequence[Stretch],
    faces: Sequence[int],
    device: Device,
    constants: Constants,
    first: int = 0,
) -> tuple[list[StagePrediction], list[RatePrediction]]:
    """Milliseconds of each stage and frames a second.

    Args:
        stretches: Stretches of some frames.
        faces: Number of faces in each frame.
        first: Number of the first frame.
    """
    figures: dict[tuple[int, str], _Figures] = defaultdict(_Figures)
    for stretch in stretches:
        frame, stage = stage_of(stretch.stage)
        figures[frame - first, stage].add(blocks, stretch.uses, device, constants)
    frames = range(len(faces))
    stages = []
    for stage in COUNTED:
        mean = _mean([figures[frame, stage] for frame in frames])
        parts = {name: round(mean.parts[name]) for name in PARTS if mean.parts[name]}
        stages.append(StagePrediction(stage, mean.ms(constants), sum(parts.values()), parts))
    rates = []
    for count in sorted(set(faces)):
        chosen = [frame for frame in frames if faces[frame] == count]
        wholes = [_sum(figures[frame, stage] for stage in COUNTED if stage != "source") for frame in chosen]
        embedded = sum(figures[frame, "embed"].parts["models"] > 0 for frame in chosen)
        ms = _mean(wholes).ms(constants)
        fps = Estimate(*(round(1000 / end, 2) for end in (ms.high, ms.value, ms.low)))
        slowest = max(each.ms(constants).value for each in wholes)
        rates.append(RatePrediction(count, len(chosen), embedded, ms, slowest, fps))
    return stages, rates


class _Figures:
    """What a stage takes, ms, without (`quick`) and with (`slow`) what the timing model adds for code that is no
    kernel: fetching it, and branches that were not expected. For kernels, the fitted costs stand for both."""

    def __init__(self) -> None:
        self.quick = self.slow = 0.0
        self.parts: Counter[str] = Counter()

    def add(self, blocks: Sequence[Block], uses: Iterable[Use], device: Device, constants: Constants) -> None:
        by_part: dict[str, list[Use]] = defaultdict(list)
        for use in uses:
            by_part[part(blocks[use.block].symbol)].append(use)
        for name, these in by_part.items():
            self.parts[name] += sum(use.runs * len(blocks[use.block].code) for use in these)
            ms = cost_of(blocks, these).ms(device, constants)
            self.quick += ms
            self.slow += ms + (0.0 if name == "models" else _front_end_ms(these, device, constants))

    def ms(self, constants: Constants) -> Estimate:
        low, high = self.quick / (1 + constants.band), self.slow / (1 - constants.band)
        return Estimate(round(low, 3), round(self.slow, 3), round(high, 3))


def _front_end_ms(uses: Iterable[Use], device: Device, constants: Constants) -> float:
    """What the core waits for instructions."""
    cycles = lines = 0.0
    for use in uses:
        cycles += (use.fetch_l1_misses - use.fetch_l2_misses) * constants.l1_miss_cycles
        cycles += use.mispredicted * MISPREDICTED_CYCLES
        lines += use.fetch_l2_misses
    return cycles / device.clock_mhz / 1e3 + lines * line_ns(device, constants) / 1e6


def _sum(figures: Iterable[_Figures]) -> _Figures:
    total = _Figures()
    for each in figures:
        total.quick += each.quick
        total.slow += each.slow
        total.parts.update(each.parts)
    return total


def _mean(figures: Sequence[_Figures]) -> _Figures:
    total = _sum(figures)
    total.quick /= len(figures)
    total.slow /= len(figures)
    total.parts = Counter({name: count // len(figures) for name, count in total.parts.items()})
    return total
