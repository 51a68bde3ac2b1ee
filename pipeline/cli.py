"""`slimcam`: the console script of the pipeline."""

from __future__ import annotations

import logging
import os
import re
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from slimcam.deploy.common import entry
from slimcam.deploy.common.config_errors import explain
from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.deploy.common.renamed_options import with_new_names
from slimcam.pipeline.config import Config, register, validate
from slimcam.pipeline.publish import failed_gates, publish
from slimcam.pipeline.renamed_options import RENAMED, accept_in_files
from slimcam.pipeline.report.table import summary
from slimcam.pipeline.run import StageError, run
from slimcam.pipeline.worker import RESULTS_OF

logger = logging.getLogger(__name__)

ERROR = 1
GATES_FAILED = 3
INTERRUPTED = 130


def main() -> None:
    """Runs what the command line asks for and exits.

    The exit code is 0, 1 for an error, 3 when the model failed a gate, 130 after Ctrl-C; for a sweep it is the largest
    of its jobs. `HYDRA_FULL_ERROR=1` asks for tracebacks.
    """
    traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # With it Hydra raises what is wrong with a configuration, and leaves it to us to say so in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    log_to_console(to_stdout=RESULTS_OF)
    register()
    accept_in_files(RENAMED, _tell)
    sweep = bool({"-m", "--multirun"} & set(sys.argv[1:]))
    words = with_texts(sys.argv[1:], paths=is_path, lists=True, sweep=sweep)
    sys.argv[1:], notices = with_new_names(words, RENAMED)
    for notice in notices:
        _tell(notice)
    codes: list[int] = []

    def job(composed: DictConfig) -> None:
        # Errors stop here: Hydra would print lines of its own, and a sweep goes on with its next job.
        try:
            entry.begin()
            codes.append(_job(composed))
        except Exception as error:
            if traceback:
                raise
            codes.append(_fail(error))

    try:
        hydra.main(version_base=None, config_path="pkg://slimcam.conf", config_name="slimcam")(job)()
    except KeyboardInterrupt:
        logger.error("\nslimcam: stopped; the same command goes on from the last checkpoint")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if traceback:
            raise
        codes.append(_fail(error))
    sys.exit(max(codes, default=0))


def is_path(key: str) -> bool:
    """Whether an option names a file or folder: its value is taken as it is, whatever characters are in it."""
    return key.startswith("paths.") or key.rpartition(".")[2] in ("root", "path", "weights", "plan")


def _job(composed: DictConfig) -> int:
    config = validate(composed)
    name = _run_name(config)
    if name != config.name:
        show(f"\n{name}")
    results = run(config)
    folder = publish(config, name, results)
    show(f"results are in {folder}")
    if "report" in config.stages:
        show(summary(results))
    failures = failed_gates(results) if {"evaluate", "report"} & set(config.stages) else []
    for line in failures:
        logger.error(f"slimcam: {line}")
    return GATES_FAILED if failures else 0


def _run_name(config: Config) -> str:
    """The run's name; a job of a sweep gets a folder below it, named after what sets it apart."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return config.name
    return f"{config.name}/{re.sub(r'[^A-Za-z0-9_.,=+-]+', '_', hydra_config.job.override_dirname)}"


def _tell(line: str) -> None:
    logger.warning(f"slimcam: {line}")


def _fail(error: Exception) -> int:
    line = explain(error)
    if not isinstance(error, (ValueError, OSError, StageError, HydraException, OmegaConfBaseException)):
        line = f"{type(error).__name__}: {line} (HYDRA_FULL_ERROR=1 shows where)"
    logger.error(f"slimcam: {line}")
    return ERROR


if __name__ == "__main__":
    main()
