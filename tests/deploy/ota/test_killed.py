"""`python -m tests.deploy.ota.kill_proof 500` for more points."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm, a file system in memory")
def test_a_device_that_dies_anywhere_in_an_update_has_a_whole_model_and_ends_the_update() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.deploy.ota.kill_proof", "20", "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("20 points, 20 kills")
