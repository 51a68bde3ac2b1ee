"""Starts a Hydra application so that every mistake of its user is one line, never a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from deploy.common.config_errors import explain


def run(
    task: Callable[[DictConfig], None],
    *,
    program: str,
    config_name: str,
    overrides: Callable[[Sequence[str]], list[str]] = list,
) -> None:
    """Runs a task on a configuration of `conf/device/` and the command line, whose words `overrides` makes Hydra's of.

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
        sys.argv[1:] = overrides(sys.argv[1:])
        application()


@contextmanager
def _one_line_errors(program: str) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"{program}: {explain(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        sys.exit(130)
