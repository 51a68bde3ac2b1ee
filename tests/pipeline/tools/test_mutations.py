"""Malformed bundles are refused in one line: a few of the mutations that the command makes thousands of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.common.child import environment
from slimcam.pipeline.tools import mutations


def test_mutated_bundles_do_not_take_the_application_down(tmp_path: Path, make_bundle: Any) -> None:
    bundle = make_bundle().path
    # A process of its own, because it forks, and the tests have threads.
    command = [sys.executable, "-m", "slimcam.pipeline.tools.mutations", "--bundle", str(bundle), "--count", "60"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "result.json")],
        env={**environment(), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == []
    assert sum(result["mutations"].values()) == 60
    assert any("refused" in outcome for outcome in result["outcomes"]["model.tflite"])


def test_the_weights_are_not_the_structure(int8_model: bytes) -> None:
    parts = mutations.structure(int8_model)
    inside = sum(end - start for start, end in parts)
    assert 0 < inside < len(int8_model)
    assert all(0 <= start < end <= len(int8_model) for start, end in parts)


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (lambda: "fine", "fine"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "FAILED: it crashed (SIGSEGV)"),
        (lambda: 1 / 0, "FAILED: it raised ZeroDivisionError"),
        (signal.pause, "FAILED: it hung"),
    ],
    ids=["gives", "crashes", "raises", "hangs"],
)
def test_what_becomes_of_a_process_is_told(work: Any, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "_SECONDS", 1.0)
    assert mutations._forked(work, "FAILED: it") == outcome
