"""Ctrl-C while an application is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STARTS = {
    "slimcam": "from slimcam.pipeline.entry import main as start",
    "slimcam-verify": "from slimcam.pipeline.entry import verify_script as start",
    "slimcam-camera": "from slimcam.deploy.common.entry import camera_script as start",
    "slimcam-faces": "from slimcam.deploy.common.entry import faces_script as start",
    "slimcam-benchmark": "from slimcam.deploy.common.entry import benchmark_script as start",
    "slimcam-ota": "from slimcam.deploy.common.entry import ota_script as start",
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1])
def test_it_is_silent(name: str, delay: float, tmp_path: Path) -> None:
    program = f"import sys; sys.argv = [{name!r}, 'list']; {STARTS[name]}; print('begins', flush=True); start()"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    # It begins with the next line, and 20 ms are enough to be in it.
    time.sleep(0.02 + delay)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130
