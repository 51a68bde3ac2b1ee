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

AT_IMPORTS = """
import importlib, os, signal, sys
module, function, sys.argv = sys.argv[1], sys.argv[2], sys.argv[3:]
start = getattr(importlib.import_module(module), function)
imports, forked = 0, False

def interrupt(event, arguments):
    global imports, forked
    if event != "import" or forked:
        return
    imports += 1
    if imports % 40 != 1:
        return
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(f"{code} at import {imports}, {arguments[0]}", flush=True)
    else:
        forked = True
        signal.alarm(60)
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
start()
"""
"""Starts a script; at every 40th module that it loads a fork of it gets a Ctrl-C. Tells the exit codes of the forks."""


def test_all_console_scripts_are_found() -> None:
    assert {"slimcam", "slimcam-align", "slimcam-camera", "slimcam-verify"} <= SCRIPTS.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_silent(name: str, tmp_path: Path) -> None:
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
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_is_silent_whatever_it_loads(name: str, tmp_path: Path) -> None:
    program = [sys.executable, "-W", "ignore", "-c", AT_IMPORTS, *SCRIPTS[name].split(":"), name, "--version"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    *forks, version = done.stdout.splitlines()
    assert version.startswith(name)
    assert len(forks) > 2
    assert [fork for fork in forks if not re.fullmatch(r"130 at import \d+, \S+", fork)] == []
    assert done.stderr == ""
