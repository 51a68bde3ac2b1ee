"""The emulated Cortex-A53 as a user has it: made, proven, counted. Minutes, so only on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.emulator import parity_check, profile_model
from slimcam.deploy.benchmark.a53.sysroot import make_sysroot

RECOGNIZER = Path(__file__).parents[2] / "deploy/models/recognizer"

pytestmark = pytest.mark.skipif(
    "SLIMCAM_EMULATED" not in os.environ, reason="set SLIMCAM_EMULATED=1 to run the emulated Cortex-A53 (some minutes)"
)


def test_the_device_code_computes_the_same_on_the_emulated_arm() -> None:
    assert parity_check(make_sysroot(), RECOGNIZER) is None


def test_counts_repeat_and_the_kernels_are_the_cortex_a53s() -> None:
    counts = []
    for _ in range(3):
        found = profile_model(make_sysroot(), RECOGNIZER / "model.tflite", fresh=True)
        counts.append(found.instructions())
        assert (found.delegate, found.left_out) == ("XNNPACK", ())
    assert max(counts) - min(counts) <= 1e-5 * max(counts)
    assert "cortex_a53" in next(iter(found.by_symbol()))
    # All nodes but those that the delegate drops have instructions of their own.
    idle = [operator.kind for operator in found.operators[:-1] if not operator.uses]
    assert set(idle) <= {"PAD", "RESHAPE"}
