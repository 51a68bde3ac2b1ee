"""A fit is the same on every backend, on one device or two, in one process or two, and wherever it was stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed: pip install jax")

# What is fitted, and how far the backends may be apart for rounding, relative.
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "sgd": ({"optimizer": "sgd"}, 1e-4),
    "adamw_ema_sizes_accumulated": ({"optimizer": "adamw", "ema": 0.9, "sizes": [24, 32], "accumulate": 2}, 1e-4),
    "muon": ({"optimizer": "muon", "clip_norm": 0.0}, 1e-3),
    "bfloat16": ({"optimizer": "sgd", "precision": "bfloat16"}, 0.02),
    "sampled": ({"sample": 0.5}, 1e-4),
    "fifty_steps": ({"optimizer": "sgd", "epochs": 12.5}, 1e-4),
}

REFUSED = {"indivisible": {"devices": 2, "batch_size": 9}, "too_many": {"devices": 3}}

RUNS = ["jax", "to_jax", "to_tensorflow", "two_devices"]
if importlib.util.find_spec("torch") is not None:
    RUNS.append("torch")


def start(backend: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Does tasks on a backend in a process of its own, with two devices where it is JAX."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("small_fits.py")), *arguments],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def work(backend: str, *tasks: tuple[str, str], root: Path) -> None:
    """Does (task, folder) for every case; what is called after two devices is done on two."""
    arguments: list[str] = []
    for case, (options, _) in CASES.items():
        for task, folder in tasks:
            more = {"devices": 2} if folder == "two_devices" else {}
            arguments += [task, json.dumps(options | more), str(root / case / folder)]
    if backend == "jax":
        for name, options in REFUSED.items():
            arguments += ["refuse", json.dumps(options), str(root / name)]
    child = start(backend, *arguments)
    _, said = child.communicate(timeout=900)
    assert child.returncode == 0, said


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case: whole on each backend, begun on each of two and ended on the other, and on two devices."""
    root = tmp_path_factory.mktemp("fits")
    work("tensorflow", ("run", "tensorflow"), ("stop", "to_jax"), root=root)
    work("jax", ("run", "jax"), ("run", "to_jax"), ("stop", "to_tensorflow"), ("run", "two_devices"), root=root)
    work("tensorflow", ("run", "to_tensorflow"), root=root)
    if "torch" in RUNS:
        work("torch", ("run", "torch"), root=root)
    return root


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((folder / "result.json").read_text())]


def assert_same(found: Path, expected: Path, tolerance: float) -> None:
    np.testing.assert_allclose(losses(found), losses(expected), rtol=tolerance)
    whole, result = (np.load(folder / "result.npz") for folder in (expected, found))
    assert result.files == whole.files
    for key in whole.files:
        np.testing.assert_allclose(result[key], whole[key], atol=10 * tolerance * np.abs(whole[key]).max() + 1e-6)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("case", list(CASES))
def test_a_fit_is_the_same_on_every_backend_and_on_two_devices(case: str, name: str, fits: Path) -> None:
    expected = fits / case / "tensorflow"
    assert len(losses(expected)) == 4 * CASES[case][0].get("epochs", 2)
    assert_same(fits / case / name, expected, CASES[case][1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("indivisible", "fit.batch_size is 9, which 2 devices cannot share equally: give a multiple of 2"),
        ("too_many", "fit.devices is 3, but JAX finds 2: cpu:0, cpu:1"),
    ],
)
def test_what_devices_cannot_do_is_said(name: str, said: str, fits: Path) -> None:
    assert (fits / name / "error.txt").read_text() == said


def test_two_processes_of_which_one_is_killed_go_on_together(fits: Path, tmp_path: Path) -> None:
    folders, options = [tmp_path / "first", tmp_path / "second"], json.dumps(CASES["sampled"][0] | {"devices": 2})

    def both(*tasks: str) -> list[subprocess.Popen[str]]:
        together = {
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{free_port()}",
            "XLA_FLAGS": "",
        }
        return [
            start("jax", task, options, str(folder), KERAS_DISTRIBUTION_PROCESS_ID=str(number), **together)
            for number, (task, folder) in enumerate(zip(tasks, folders, strict=True))
        ]

    first, second = both("run", "die")
    second.communicate(timeout=300)
    assert second.returncode == -signal.SIGKILL
    assert first.stderr is not None
    assert any("ConnectionError: another process of this training has ended" in line for line in first.stderr)
    # It ends by itself when it misses the other's heartbeats.
    first.kill()
    first.communicate()
    assert not (folders[0] / "result.json").exists()
    # The second comes back on a machine that has nothing.
    (folders[1] / "checkpoint.npz").unlink()
    for child in both("run", "run"):
        _, said = child.communicate(timeout=300)
        assert child.returncode == 0, said
    for folder in folders:
        assert len(losses(folder)) == 8
        assert_same(folder, fits / "sampled" / "jax", 1e-4)
