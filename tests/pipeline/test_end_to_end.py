"""The whole pipeline in miniature, on rendered faces, as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.inference.model import Recognizer

RUN = [sys.executable, "-m", "slimcam.pipeline.cli", "debug=fast"]


def slimcam(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *overrides], cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which training was killed, and the pipeline then ran to its end."""
    folder = tmp_path_factory.mktemp("home")
    with subprocess.Popen(
        [*RUN, "train.fit.checkpoint_seconds=0.0", "train.fit.log_seconds=0.0"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as killed:
        deadline = time.monotonic() + 300
        while not list(folder.rglob("checkpoint.npz")) and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
    ended = slimcam(folder)
    assert ended.returncode == 0, ended.stderr
    assert "goes on from where it was stopped" in ended.stdout
    (folder / "log").write_text(ended.stdout)
    return folder


def test_a_killed_training_goes_on_from_its_checkpoint(home):
    assert "resumed at step" in (home / "log").read_text()
    histories = list((home / "runs/store/train").glob("*/history.jsonl"))
    assert len(histories) == 1
    steps = [json.loads(line)["step"] for line in histories[0].read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6


def test_the_bundle_runs_on_the_device_side(home):
    recognizer = Recognizer(home / "runs/fast/bundle")
    embedding = recognizer.embed(np.zeros((1, 112, 112, 3), np.uint8))
    assert embedding.shape == (1, 64)
    assert recognizer.interpreter.delegation().complete
    assert recognizer.interpreter.input.dtype == recognizer.interpreter.output.dtype == np.int8
    assert recognizer.interpreter.input.scale == 1 / 128
    assert recognizer.interpreter.input.zero_point == 0
    assert set(recognizer.bundle.thresholds) == {"0.1"}


def test_the_compressed_model_is_smaller_and_followed_by_its_file(home):
    costs = json.loads(next(home.glob("runs/store/prune/*/cost.json")).read_text())
    assert costs["pruned"]["parameters"] < 0.35 * costs["dense"]["parameters"]
    assert json.loads(next(home.glob("runs/store/convert/*/fidelity.json")).read_text())["mean"] > 0.99


def test_a_second_run_does_nothing_and_a_late_option_reruns_only_from_there(home):
    started = time.monotonic()
    again = slimcam(home)
    assert time.monotonic() - started < 15
    assert "nothing to do" in again.stdout
    late = slimcam(home, "evaluate.rates=[0.2]")
    assert late.returncode == 0, late.stderr
    lines = late.stdout.splitlines()
    done = {line.split()[0] for line in lines if "up to date" in line}
    assert done == {"check", "train", "prune", "quantize", "convert", "benchmark"}


def test_a_failed_gate_ends_with_its_figure_and_bound_after_the_report_also_when_nothing_reruns(home):
    for _ in range(2):
        failed = slimcam(home, "name=strict", "evaluate.gates.size_mb=0.001")
        assert failed.returncode == 3
        assert "gate size_mb FAILED" in failed.stderr
        assert "wanted at most 0.001 MB" in failed.stderr
        assert (home / "runs/strict/report.html").is_file()
