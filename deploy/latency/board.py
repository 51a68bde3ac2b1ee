"""What `ssh` runs on a board: the set-up of its Python and one measurement, both cut off from the connection.

    start JOB      starts the job, or finds it started
    follow JOB N   writes its log from byte N on, then its result, as JSON lines
    work JOB       the job itself (run by `start`)
    measure JOB    its last step, in the virtual environment (run by `work`)

A job is a folder with `request.json`; it gets a `log`, and `result.json` at its end. Whoever works at it holds a lock
on its file `lock`, which the system takes back when the worker ends, however it ends. The working folder is the one
that holds `jobs/`. All but `measure` run out of the wheel as it was copied, with the board's own Python and no library.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.common.messages import last_line, one_line

logger = logging.getLogger(__name__)

OLDEST, NEWEST = (3, 10), (3, 13)
POLL_SECONDS = 0.5
VENV = Path("venv")

# `python3 -c BOOT WHEEL COMMAND JOB ...`
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from slimcam.deploy.latency import board; board.main(sys.argv[1:])"


def main(arguments: list[str]) -> None:
    """Runs `WHEEL COMMAND JOB ...`."""
    log_to_console()
    wheel, command, job = arguments[0], arguments[1], Path(arguments[2])
    if command == "start":
        start_job(job, wheel)
    elif command == "follow":
        follow(job, int(arguments[3]))
    else:
        work(job, Path(wheel))


def start_job(job: Path, wheel: str) -> None:
    """Starts the job's worker in a session of its own, unless there is one or it has ended.

    Raises:
        SystemExit: this Python is too old or too new.
    """
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found, oldest, newest = (".".join(map(str, version)) for version in (sys.version_info[:2], OLDEST, NEWEST))
        sys.exit(f"its Python is {found}, slimcam needs {oldest} to {newest}; name another one with target.python=...")
    lock = None if (job / "result.json").exists() else _lock(job)
    if lock is None:
        return
    with lock, (job / "log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-c", BOOT, wheel, "work", str(job)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # The worker holds the lock that this process took, so that there is no moment without one.
            pass_fds=[lock.fileno()],
        )


def follow(job: Path, offset: int) -> None:
    """Writes `{"log": TEXT, "offset": NEXT}` lines while the job runs and `{"result": ...}` when it has ended."""
    parent = os.getppid()
    # A connection that is lost leaves its followers to another parent.
    while os.getppid() == parent:
        # Looked at before the log is read: what was logged before the end is sent before the result.
        worked_at = _worked_at(job)
        result = job / "result.json"
        ended = result.exists()
        with (job / "log").open("rb") as log:
            log.seek(offset)
            text = log.read()
        if text:
            offset += len(text)
            _answer({"log": text.decode(errors="replace"), "offset": offset})
        if ended:
            _answer({"result": json.loads(result.read_text())})
            return
        if not worked_at:
            error = f"the measurement was killed there, or the board restarted; its last line: {_last_line(job)}"
            _answer({"result": {"error": error}})
            return
        time.sleep(POLL_SECONDS)


def work(job: Path, wheel: Path) -> None:
    """Sets the board up, measures, and writes the result, which may be an error."""
    try:
        with Path("board.lock").open("w") as lock:
            # Two measurements at once would disturb each other, and two set-ups would break each other.
            if not _take(lock):
                logger.info("benchmark: waiting for another measurement to end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            result = _measure_in(_set_up(wheel, json.loads((job / "request.json").read_text())), job)
    except (OSError, ValueError, RuntimeError) as error:
        result = {"error": one_line(error)}
    write_text(job / "result.json", json.dumps(result))


def measure_request(job: Path) -> dict[str, Any]:
    """The records of what the request asks for, or an error in one line."""
    # Here, because only the virtual environment has what they need.
    from slimcam.deploy.inference.bundle import is_bundle
    from slimcam.deploy.inference.model import BundledModel
    from slimcam.deploy.latency import host

    request = json.loads((job / "request.json").read_text())
    models = {name: Path(path) for name, path in request["models"].items()}
    try:
        for path in models.values():
            if is_bundle(path):
                # Opening a bundle checks that this device computes what was tested.
                BundledModel(path)
        records = host.measure_on_host(models, host.HostConfig(**request["config"]))
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        return {"error": one_line(error)}
    return {"records": [asdict(record) for record in records]}


def _measure_in(python: Path, job: Path) -> dict[str, Any]:
    """Result of `measure_request` in the virtual environment.

    Raises:
        RuntimeError: it was killed.
    """
    child = subprocess.run(
        [str(python), "-m", "slimcam.deploy.latency.board", "measure", str(job)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    if child.returncode < 0:
        raise RuntimeError(f"the measuring process was ended by signal {-child.returncode} (9: for want of memory)")
    if child.returncode:
        raise RuntimeError(f"the measuring process failed: {_last_line(job)}")
    result: dict[str, Any] = json.loads(child.stdout)
    return result


def _set_up(wheel: Path, request: dict[str, Any]) -> Path:
    """The Python of the virtual environment, which is made where there is none or what it was made of has changed."""
    python = VENV / "bin" / "python"
    options = ["--system-site-packages"] if request["system_packages"] else []
    offline = ["--no-index", "--find-links", "wheels"] if request["offline"] else []
    made_of = hashlib.sha256(json.dumps([request["requirements"], options, sys.version]).encode()).hexdigest()
    ready, installed = Path("venv.ready"), Path("venv.wheel")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    if not ready.exists() or ready.read_text() != made_of:
        ready.unlink(missing_ok=True)
        logger.info("benchmark: making a virtual environment (once)")
        _run([sys.executable, "-m", "venv", "--clear", *options, str(VENV)], "Debian: apt install python3-venv")
        logger.info("benchmark: installing slimcam and what it needs (once)")
        _run([*pip, *offline, str(wheel)], "for a board without a network give target.wheels")
        ready.write_text(made_of)
    elif not installed.exists() or installed.read_text() != wheel.name:
        installed.unlink(missing_ok=True)
        logger.info("benchmark: installing this version of slimcam")
        _run([*pip, "--no-deps", "--force-reinstall", "--no-index", str(wheel)], "remove its folder on the board")
    installed.write_text(wheel.name)
    return python


def _run(command: list[str], advice: str) -> None:
    """Runs a step of the set-up.

    Raises:
        RuntimeError: It failed; the message has its last line, or its last error.
    """
    child = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if child.returncode:
        lines = child.stdout.strip().splitlines() or ["nothing"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise RuntimeError(f"`{' '.join(command[1:4])}` failed: {errors[-1]} ({advice})")


def _last_line(job: Path) -> str:
    """Of the job's log."""
    return last_line((job / "log").read_text(errors="replace"), "nothing")


def _answer(message: dict[str, Any]) -> None:
    show(json.dumps(message))


def _lock(job: Path) -> IO[bytes] | None:
    """The job's lock; None where another process holds it."""
    lock = (job / "lock").open("ab")
    if _take(lock):
        return lock
    lock.close()
    return None


def _take(lock: IO[Any]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _worked_at(job: Path) -> bool:
    lock = _lock(job)
    if lock is None:
        return True
    lock.close()
    return False


if __name__ == "__main__":
    log_to_console()
    _answer(measure_request(Path(sys.argv[2])))
