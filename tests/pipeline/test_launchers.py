"""Sweeps whose members run in other processes: Hydra's launchers, by configuration alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_module

from slimcam.pipeline import members
from slimcam.pipeline.config import register
from tests.pipeline.test_cli import finish

STAGES = "stages=[train,prune,quantize,convert,benchmark,evaluate,report]"
SWEEP = ("-m", "debug=fast", STAGES, "prune.ratio=0.4,0.5,0.6")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_a_sweep_of_which_a_process_was_killed_is_told_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'slimcam[joblib]'")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "slimcam.pipeline.cli", *SWEEP, *JOBLIB]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout is not None
    said = ""
    # One of two works on the stage that all share, the other waits for it.
    while "waits for another slimcam (process " not in said:
        said += first.stdout.readline()
    assert "train      running" in said
    os.kill(int(said.split("(process ")[1].split()[0]), signal.SIGKILL)
    rest, err = first.communicate(timeout=60)
    assert first.returncode == members.ERROR
    assert "slimcam: a process of the launcher was killed, and with it the others ended; the same command" in err
    for ratio, line in (("0.4", "has not come to its end"), ("0.6", "has not begun")):
        assert f"failed: prune.ratio={ratio}: {line}" in rest
    _wait_until_nobody_works_in(tmp_path)

    for ratio in ("0.4", "0.5", "0.6"):
        finish("debug=fast", f"prune.ratio={ratio}")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count("nothing to do") == 3
    page = Path("runs/fast/comparison.md").read_text()
    assert [line.split()[2] for line in page.splitlines()[5:8]] == [f"prune.ratio={ratio}" for ratio in (0.4, 0.5, 0.6)]
    outcomes = [json.loads(path.read_text()) for path in Path("runs/fast").glob(f"*/{members.MEMBER}")]
    assert outcomes == [{"code": 0, "line": ""}] * 3


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_launchers_compose(launcher: str) -> None:
    plugin = launcher.partition("_")[0]
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher", reason=f"pip install 'slimcam[{plugin}]'")
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        composed = compose("slimcam", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    assert plugin in composed.hydra.launcher._target_


def _wait_until_nobody_works_in(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while any(_works_in(process, folder) for process in psutil.process_iter()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.status() != "zombie" and Path(process.cwd()) == folder
    except (psutil.Error, OSError):
        return False
