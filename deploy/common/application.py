"""Starts a Hydra application so that every mistake of its user is one line, never a traceback."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from slimcam.deploy.common import entry
from slimcam.deploy.common.config_errors import explain
from slimcam.deploy.common.console import log_to_console, version_asked
from slimcam.deploy.common.renamed_options import with_new_names

logger = logging.getLogger(__name__)


def run(
    task: Callable[[DictConfig], None],
    *,
    program: str,
    config_name: str,
    overrides: Callable[[Sequence[str]], list[str]] = list,
    renamed: Mapping[str, str] | None = None,
) -> None:
    """Runs a task on a configuration of `conf/device/` and the command line, whose words `overrides` makes Hydra's of.

    Bad input, a missing file or library and a refused model (ValueError, OSError, ImportError, RuntimeError) end the
    process with one line on stderr and exit code 1; Ctrl-C ends it with 130.

    Args:
        task: What the application does.
        program: Name of the console script, for messages.
        config_name: File in `conf/device/`.
        overrides: Makes Hydra's overrides of the words of the command line.
        renamed: Old names of options and their new ones, see `slimcam.deploy.common.renamed_options`.
    """
    # Makes Hydra raise its errors instead of printing them with half a traceback.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    log_to_console()
    if version_asked(program, sys.argv[1:]):
        return

    @functools.wraps(task)
    def job(config: DictConfig) -> None:
        # Caught in here too: Hydra prints a line of its own about errors that leave a job.
        with _one_line_errors(program):
            entry.begin()
            task(config)

    application = hydra.main(version_base=None, config_path="pkg://slimcam.conf.device", config_name=config_name)(job)
    with _one_line_errors(program):
        words, notices = with_new_names(overrides(sys.argv[1:]), renamed or {})
        for notice in notices:
            logger.warning("%s: %s", program, notice)
        sys.argv[1:] = words
        application()


@contextmanager
def _one_line_errors(program: str) -> Iterator[None]:
    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError, OSError, ImportError, RuntimeError) as error:
        logger.error("%s: %s", program, explain(error))
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("%s: stopped", program)
        sys.exit(130)
