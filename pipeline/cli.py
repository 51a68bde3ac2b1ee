"""`slimcam`: the console script of the pipeline."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from slimcam.deploy.common import entry
from slimcam.deploy.common.console import log_to_console, show, version_asked
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.deploy.common.renamed_options import with_new_names
from slimcam.pipeline.config import Config, PathsConfig, register, validate
from slimcam.pipeline.members import ERROR, Announced, Outcome, attempt, failure, folder_of, outcomes, own_part, perform
from slimcam.pipeline.options import help_text
from slimcam.pipeline.renamed_options import RENAMED, accept_in_files
from slimcam.pipeline.stages.config import untrained_words
from slimcam.pipeline.stages.file_config import STAGE as COMPRESS
from slimcam.pipeline.stages.file_config import ModelFileConfig, refuse_words_without_effect
from slimcam.pipeline.worker import RESULTS_OF

logger = logging.getLogger(__name__)

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
    if version_asked("slimcam", sys.argv[1:]):
        return
    # A training of many hours is not what somebody means who wants to see what this is.
    if not sys.argv[1:]:
        sys.argv.append("--help")
    if sys.argv[1:2] == ["compare"]:
        _compare(sys.argv[2:])
    if sys.argv[1:2] == [COMPRESS]:
        sys.argv[1] = f"task={COMPRESS}"
    find_own_code()
    register()
    OmegaConf.register_new_resolver("option_meanings", help_text, replace=True)
    accept_in_files(RENAMED, _tell)
    sweep = bool({"-m", "--multirun"} & set(sys.argv[1:]))
    words = with_texts(sys.argv[1:], paths=is_path, lists=True, sweep=sweep)
    sys.argv[1:], notices = with_new_names(words, RENAMED)
    for notice in notices:
        _tell(notice)
    codes: list[int] = []

    def job(composed: DictConfig) -> None:
        # Errors stop here: Hydra would print lines of its own, and a sweep goes on with its next job.
        if sweep:
            _member(composed, tracebacks=traceback)
            return
        try:
            entry.begin()
            codes.append(_job(composed).code)
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
    codes += _compare_members() if sweep else []
    sys.exit(max(codes, default=0))


def find_own_code() -> None:
    """Puts the working directory on the path, last: a file of the user's hides no library by its name."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _compare(words: Sequence[str]) -> NoReturn:
    """`slimcam compare RUN RUN ...`; ends the process."""
    from slimcam.pipeline.report import comparison  # late: it loads Matplotlib

    runs = Path(PathsConfig().runs)
    try:
        show(comparison.write(comparison.read_runs(words, runs), runs))
    except (ValueError, OSError) as error:
        sys.exit(_fail(error))
    sys.exit(0)


def _compare_members() -> list[int]:
    """Shows the members of a sweep side by side, and writes that to the folder above theirs; gives their exit codes."""
    found = outcomes(Announced.folders)
    if any(not outcome.line or outcome.code == ERROR for outcome in found.values()):
        from slimcam.pipeline.report import comparison

        parent = next(iter(found)).parent
        show("\n" + comparison.write(comparison.of_members(found), parent))
    return [outcome.code for outcome in found.values()]


def is_path(key: str) -> bool:
    """Whether an option names a file or folder: its value is taken as it is, whatever characters are in it."""
    return key.startswith("paths.") or key.rpartition(".")[2] in ("root", "path", "weights", "plan")


def _member(composed: DictConfig, *, tracebacks: bool) -> None:
    """Runs a member of a sweep, which may be in a process of a launcher's."""
    chosen = HydraConfig.get()
    beside = chosen.runtime.choices["hydra/launcher"] != "basic"
    log_to_console(to_stdout=RESULTS_OF, prefix=f"{own_part(chosen.job)}: " if beside else "")
    find_own_code()
    entry.begin()
    attempt(folder_of(composed, chosen.job), lambda: _job(composed), tracebacks=tracebacks)


def _job(composed: DictConfig) -> Outcome:
    config = validate(composed)
    words = HydraConfig.get().overrides.task
    if isinstance(config.model, ModelFileConfig):
        refuse_words_without_effect(config, words)
    else:
        for notice in untrained_words(config.quantize, words):
            _tell(notice)
    name = _run_name(config)
    if name != config.name:
        show(f"\n{name}")
    if config.search.ratios:
        try:
            from slimcam.pipeline import search  # late: it loads Optuna
        except ModuleNotFoundError as error:
            raise ValueError(f"search: {error.name} is not installed: pip install 'slimcam[search]'") from error
        return search.search(config, name)
    return perform(config, name)


def _run_name(config: Config) -> str:
    """The run's name; a member of a sweep gets a folder below it, named after what sets it apart."""
    chosen = HydraConfig.get()
    return config.name if chosen.mode != RunMode.MULTIRUN else f"{config.name}/{own_part(chosen.job)}".rstrip("/")


def _tell(line: str) -> None:
    logger.warning(f"slimcam: {line}")


def _fail(error: Exception) -> int:
    logger.error(f"slimcam: {failure(error)}")
    return ERROR


if __name__ == "__main__":
    main()
