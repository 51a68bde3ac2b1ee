from __future__ import annotations

import pytest

from slimcam.deploy.benchmark.a53.camera_trial import COUNTED, stage_number
from slimcam.deploy.benchmark.a53.device import Device
from slimcam.deploy.benchmark.a53.latency import predict_ms, read_constants
from slimcam.deploy.benchmark.a53.profile import Block, Profile, Stretch, Use
from slimcam.deploy.benchmark.a53.stages import MISPREDICTED_CYCLES, RatePrediction, predict_stages
from slimcam.deploy.latency.record import Estimate

DEVICE = Device("Snapdragon 625", 2000.0, 8, 7.464)
CONSTANTS = read_constants()


KERNEL = Block("xnn_qs8_gemm_ukernel_4x16", ("smlal v16.4s, v2.4h, v10.h[0]", "ret"))
PYTHON = Block("python/python3.11", ("ldr x1, [x2]", "ret"))
COPY = Block("system/libc.so.6", ("ldr q0, [x1]", "str q0, [x2]"))


def test_a_model_takes_what_the_benchmark_predicts_for_it(profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v2_int8"]
    stretches = [Stretch(stage_number(0, "embed"), operator.uses) for operator in profile.operators]
    # Without the system's functions, which are a part of their own here.
    blocks = [Block(block.symbol.replace("/", "_"), block.code) for block in profile.blocks]
    stages, rates = predict_stages(blocks, stretches, [1], DEVICE, CONSTANTS)
    embed = next(stage for stage in stages if stage.name == "embed")
    assert embed.ms.value == pytest.approx(predict_ms(profile, DEVICE, CONSTANTS), rel=1e-4)
    assert embed.ms.low == pytest.approx(embed.ms.value / (1 + CONSTANTS.band), rel=1e-3)
    assert (embed.instructions, embed.parts) == (profile.instructions(), {"models": profile.instructions()})
    assert rates == [RatePrediction(1, 1, 1, embed.ms, embed.ms.value, rates[0].fps)]
    assert rates[0].fps.value == pytest.approx(1000 / embed.ms.value, abs=0.01)


def test_code_that_is_no_kernel_waits_for_instructions_and_branches() -> None:
    quiet = Use(0, 1_000_000, 0, 0, 0, 0)
    waiting = Use(0, 1_000_000, 0, 0, 0, 0, fetch_l1_misses=30_000, fetch_l2_misses=10_000, mispredicted=50_000)
    front_end = (20_000 * CONSTANTS.l1_miss_cycles + 50_000 * MISPREDICTED_CYCLES) / 2e6
    front_end += 10_000 * CONSTANTS.l2_miss_ns / 1e6

    def ms(block: Block, use: Use) -> Estimate:
        stages, _ = predict_stages([block], [Stretch(stage_number(0, "track"), (use,))], [0], DEVICE, CONSTANTS)
        return next(stage.ms for stage in stages if stage.name == "track")

    before, after = ms(PYTHON, quiet), ms(PYTHON, waiting)
    assert after.value - before.value == pytest.approx(front_end, abs=2e-3)
    # The least is without them, the most with.
    assert (after.low, after.high) == (before.low, pytest.approx(after.value / (1 - CONSTANTS.band), rel=1e-3))
    assert ms(KERNEL, waiting) == ms(KERNEL, quiet)


def test_frames_are_told_apart_by_their_faces_and_reading_them_is_not_their_time() -> None:
    def stretch(frame: int, stage: str, block: int, runs: int) -> Stretch:
        return Stretch(stage_number(frame, stage), (Use(block, runs, 0, 0, 0, 0),))

    stretches = [
        *(stretch(2, "source", 2, 9_000_000), stretch(2, "detect", 1, 1_000_000)),
        *(stretch(3, "source", 2, 9_000_000), stretch(3, "detect", 1, 1_000_000), stretch(3, "embed", 0, 2_000_000)),
        *(stretch(4, "detect", 1, 1_000_000), stretch(4, "rest", 1, 500_000)),
    ]
    stages, rates = predict_stages([KERNEL, PYTHON, COPY], stretches, [0, 1, 1], DEVICE, CONSTANTS, first=2)
    assert [stage.name for stage in stages] == list(COUNTED)
    by_name = {stage.name: stage for stage in stages}
    assert by_name["source"].parts == {"system": 12_000_000}
    assert by_name["detect"].instructions == 2_000_000
    assert by_name["embed"].parts == {"models": 1_333_333}
    assert by_name["align"].instructions == 0
    assert [(rate.faces, rate.frames, rate.embedded) for rate in rates] == [(0, 1, 0), (1, 2, 1)]
    none, one = rates
    assert none.ms.value == by_name["detect"].ms.value
    assert one.slowest_ms > one.ms.value > none.ms.value
    assert one.fps.low < one.fps.value < one.fps.high
