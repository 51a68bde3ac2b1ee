"""Ctrl-C while an application is loaded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = dict(re.findall(r'^(slimcam[a-z-]*) = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))


def test_all_console_scripts_are_found() -> None:
    assert {"slimcam", "slimcam-align", "slimcam-camera", "slimcam-verify"} <= SCRIPTS.keys()


# slimcam-align is loaded in less than a tenth of a second, and then says what it lacks.
@pytest.mark.parametrize(
    ("name", "delay"),
    [(name, delay) for name in SCRIPTS for delay in (0.0, 0.05, 0.1) if not (delay and name == "slimcam-align")],
)
def test_it_is_silent(name: str, delay: float, tmp_path: Path) -> None:
    module, function = SCRIPTS[name].split(":")
    start = f"from {module} import {function} as start; print('begins', flush=True); start()"
    program = f"import sys; sys.argv = [{name!r}, 'list']; {start}"
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
