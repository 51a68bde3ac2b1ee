"""A stage in a process of its own: the parent's side (`start`, `stop`) and the child's (`main`).

The child lives in its own session, so that Ctrl-C reaches the parent alone, which then ends the child and all that it
started. The request travels through a pipe that the parent keeps open: when the parent dies, however it dies, the
child reads the end of that pipe and ends as well.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimcam.deploy.common.console import log_to_console
from slimcam.deploy.common.messages import one_line
from slimcam.training.fit.devices import join_processes
from slimcam.training.tasks.job import Job

logger = logging.getLogger(__name__)

RESULTS_OF = ("slimcam.pipeline", "slimcam.training", "slimcam.compression")
"""Packages whose log says what a run did, which goes to stdout; progress and what goes wrong go to stderr."""

# The import path is handed over, and not the current folder: a user's folder may hold modules of the same names.
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from slimcam.pipeline.worker import main; main()"

# TensorFlow uses oneDNN by itself only on processors with AVX512-VNNI or better; on others it is faster too.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", "MPLBACKEND": "Agg"}


@dataclass(frozen=True)
class Request:
    """What the child is to do.

    Attributes:
        function: `module:function`, called with the job.
        backend: Keras' backend, set before anything imports Keras; none leaves Keras out.
        error_log: gets the one line that says what went wrong, and the traceback.
    """

    function: str
    job: Job
    backend: str | None
    error_log: Path


def start(request: Request, *, lock: int) -> subprocess.Popen[bytes]:
    """Starts the child; `lock` is a file descriptor that it keeps open for as long as it lives."""
    environment = {**_ENVIRONMENT, **os.environ}
    if request.backend is not None:
        environment["KERAS_BACKEND"] = request.backend
    child = subprocess.Popen(
        [sys.executable, "-c", _BOOT, *sys.path],
        stdin=subprocess.PIPE,
        env=environment,
        pass_fds=(lock,),
        start_new_session=True,
    )
    assert child.stdin is not None
    # A child that died at once says so with its exit code.
    with contextlib.suppress(BrokenPipeError):
        pickle.dump(request, child.stdin)
        child.stdin.flush()
    return child


def stop(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and everything that it started. Stages are made to be killed: they go on from a checkpoint."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def main() -> None:
    """The child: runs one request, and exits with 1 and a filled `error_log` when it fails."""
    try:
        request: Request = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):  # the parent ended before it sent the request
        sys.exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log_to_console(to_stdout=RESULTS_OF)
    # TensorFlow gives the root logger a handler of its own, which would say everything once more.
    logging.getLogger("slimcam").propagate = False
    try:
        if request.backend is not None:
            join_processes(_import_keras())
        module, name = request.function.split(":")
        getattr(importlib.import_module(module), name)(request.job)
    except Exception as error:
        try:
            request.error_log.write_text(f"{_one_line(error)}\n\n{traceback.format_exc()}")
        except OSError:  # a full disk takes no log either
            logger.error(_one_line(error))
        sys.exit(1)


def _import_keras() -> Any:
    """Imports Keras and its backend without what TensorFlow writes to stderr, which no log level holds back."""
    stderr = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        keras = importlib.import_module("keras")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        return keras
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _end_with_parent() -> None:
    # os.read, not sys.stdin: a thread inside the latter's lock would break the interpreter's shutdown.
    os.read(sys.stdin.fileno(), 1)
    os.killpg(0, signal.SIGKILL)


def _one_line(error: Exception) -> str:
    text = one_line(error) if str(error).strip() else ""
    if isinstance(error, ModuleNotFoundError) and error.name in ("jax", "torch"):
        return f"{error.name} is not installed, which backend={error.name} needs: pip install {error.name}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed, which the pipeline needs: pip install 'slimcam[pipeline]'"
    if isinstance(error, (ValueError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
