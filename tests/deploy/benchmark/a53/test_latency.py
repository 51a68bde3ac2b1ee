from __future__ import annotations

import pytest

from slimcam.deploy.benchmark.a53.device import Device
from slimcam.deploy.benchmark.a53.latency import (
    macs,
    predict_ms,
    predict_threads_ms,
    read_constants,
    roof_ms,
    tiles,
    weights_bytes,
)
from slimcam.deploy.benchmark.a53.profile import Profile, ProfiledOperator, Tensor

DEVICE = Device("Snapdragon 625", 2000.0, 8, 7.464)
CONSTANTS = read_constants()


def operator(kind: str, kernel: tuple[int, ...], output: tuple[int, ...], dtype: str = "int8") -> ProfiledOperator:
    inputs = (Tensor("in", (1, 8, 8, kernel[-1]), dtype), Tensor("kernel", kernel, dtype))
    return ProfiledOperator(kind, inputs, Tensor("out", output, dtype), ())


def test_multiply_adds_are_those_of_the_layer() -> None:
    assert macs(operator("CONV_2D", (16, 3, 3, 8), (1, 4, 4, 16))) == 4 * 4 * 16 * 3 * 3 * 8
    assert macs(operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8), (1, 4, 4, 8))) == 4 * 4 * 8 * 3 * 3
    assert macs(operator("FULLY_CONNECTED", (10, 64), (1, 10))) == 640
    assert macs(operator("ADD", (1, 4, 4, 8), (1, 4, 4, 8))) == 0


def test_mobilenet_v1_has_its_published_569_million_multiply_adds(profiles: dict[str, Profile]) -> None:
    assert sum(map(macs, profiles["mobilenet_v1_fp32"].operators)) == pytest.approx(569e6, rel=0.01)


def test_no_prediction_beats_the_limit_of_the_processor(profiles: dict[str, Profile]) -> None:
    for profile in profiles.values():
        fit = weights_bytes(profile) <= 512 << 10
        assert sum(roof_ms(each, DEVICE, fit) for each in profile.operators) < predict_ms(profile, DEVICE, CONSTANTS)


def test_the_limit_of_resnet_50_is_the_published_arithmetic(profiles: dict[str, Profile]) -> None:
    roof = sum(roof_ms(each, DEVICE, False) for each in profiles["resnet50_fp32"].operators)
    assert roof == pytest.approx(482, rel=0.03)


def test_more_threads_are_quicker_and_the_interval_is_one(profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v2_int8"]
    one = predict_ms(profile, DEVICE, CONSTANTS)
    assert predict_threads_ms(profile, DEVICE, CONSTANTS, 1) == pytest.approx((one, one))
    intervals = [predict_threads_ms(profile, DEVICE, CONSTANTS, threads) for threads in (2, 4, 8)]
    for threads, (low, high) in zip((2, 4, 8), intervals, strict=True):
        assert one / threads <= low < high < one
    assert sorted(intervals, reverse=True) == intervals
    with pytest.raises(ValueError, match="ask for 1 to 8 threads, not 9"):
        predict_threads_ms(profile, DEVICE, CONSTANTS, 9)


def test_a_slower_clock_and_slower_memory_take_longer(profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v3_small_fp32"]
    base = predict_ms(profile, DEVICE, CONSTANTS)
    assert predict_ms(profile, Device("slow", 1000.0, 8, 7.464), CONSTANTS) > 1.5 * base
    assert predict_ms(profile, Device("narrow", 2000.0, 8, 3.7), CONSTANTS) > base


def test_a_dense_layer_has_tiles_across_its_outputs_only() -> None:
    assert tiles(operator("FULLY_CONNECTED", (128, 64), (1, 128))) == 8
    assert tiles(operator("CONV_2D", (16, 1, 1, 8), (1, 4, 4, 16))) == 4


@pytest.mark.parametrize("change", [{"clock_mhz": 0.0}, {"cores": 0}, {"memory_gbs": -1.0}])
def test_impossible_devices_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a device needs a clock"):
        Device(**{"name": "x", "clock_mhz": 1.0, "cores": 1, "memory_gbs": 1.0, **change})  # type: ignore[arg-type]
