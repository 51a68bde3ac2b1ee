from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from slimcam.deploy.common.console import PACKAGES, log_to_console, show


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in PACKAGES}
    yield
    for name, (handlers, level) in before.items():
        logging.getLogger(name).handlers[:] = handlers
        logging.getLogger(name).setLevel(level)


def test_a_library_that_is_embedded_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for name in PACKAGES:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("slimcam.deploy.latency.host").info("progress")
    assert capfd.readouterr() == ("", "")


def test_a_record_is_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_console()
    log_to_console()
    logging.getLogger("slimcam.deploy.latency.host").info("%s: %d %%", "progress", 50)
    logging.getLogger("slimcam.deploy.latency.host").debug("not shown")
    assert capfd.readouterr() == ("", "progress: 50 %\n")


def test_lines_of_several_processes_tell_whose_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_console(prefix="ratio=50%: ")
    logging.getLogger("slimcam.deploy.latency.host").info("progress")
    assert capfd.readouterr() == ("", "ratio=50%: progress\n")


def test_what_a_package_says_as_its_result_goes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_console(to_stdout=["slimcam.pipeline"])
    logging.getLogger("slimcam.pipeline.run").info("done")
    logging.getLogger("slimcam.pipeline.run").error("failed")
    logging.getLogger("slimcam.deploy.latency.host").info("progress")
    assert capfd.readouterr() == ("done\n", "failed\nprogress\n")


def test_without_a_terminal_nobody_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    log_to_console()
    monkeypatch.setattr(sys, "stderr", None)
    logging.getLogger("slimcam.deploy").info("progress")


def test_results_go_where_they_are_wanted(capfd: pytest.CaptureFixture[str]) -> None:
    show("table")
    show("table beside data", to_stderr=True)
    assert capfd.readouterr() == ("table\n", "table beside data\n")
