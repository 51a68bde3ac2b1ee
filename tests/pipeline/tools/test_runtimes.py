"""What runtimes give for a bundle is compared in steps of the output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from slimcam.pipeline.tools import runtimes


def test_the_same_runtime_gives_the_same_output(make_bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runtimes.main([sys.executable, sys.executable, "--bundle", str(make_bundle().path)])
    assert (
        "2 golden images: 0.0% of the values differ, by 0.00 steps on average and 0 at most" in capsys.readouterr().out
    )


def test_an_interpreter_without_a_runtime_is_one_line(make_bundle: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'no runtime' >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match="python: no runtime"):
        runtimes.compare([python, python], make_bundle().path)


def test_one_interpreter_is_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runtimes.main([sys.executable])
    assert "two interpreters or more" in capsys.readouterr().err
