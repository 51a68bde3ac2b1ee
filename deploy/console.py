"""Starts a Hydra application so that every mistake of its user is one line, never a traceback."""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException


def run(task: Callable[[DictConfig], None], *, program: str, config_name: str) -> None:
    """Runs a task on a configuration of `conf/device/` and the command line.

    Bad input, a missing file or library and a refused model (ValueError, OSError, ImportError, RuntimeError) end the
    process with one line on stderr and exit code 1; Ctrl-C ends it with 130.
    """
    # Makes Hydra raise its errors instead of printing them with half a traceback.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    @functools.wraps(task)
    def job(config: DictConfig) -> None:
        # Caught in here too: Hydra prints a line of its own about errors that leave a job.
        with _one_line_errors(program):
            task(config)

    application = hydra.main(version_base=None, config_path="pkg://conf.device", config_name=config_name)(job)
    with _one_line_errors(program):
        application()


@contextmanager
def _one_line_errors(program: str) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)


def _one_line(error: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.options:
        return f"there is no {error.missing_cfg_file} in conf/device; choose one of: {', '.join(error.options)}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    return " ".join(str(error).split()) if cause is None else _config_error(cause)


def _config_error(error: OmegaConfBaseException) -> str:
    """An error of the configuration: which key, what is wrong with it, and what may have been meant."""
    what = str(error.msg or error).splitlines()[0]
    line = f"{error.full_key}: {what}" if error.full_key and error.full_key not in what else what
    valid = error.parent_node
    if isinstance(valid, DictConfig) and error.key not in valid:
        near = difflib.get_close_matches(str(error.key), [str(key) for key in valid], n=1)
        line += f"; did you mean {near[0]!r}?" if near else f"; valid keys are {', '.join(map(str, valid))}"
    return line
