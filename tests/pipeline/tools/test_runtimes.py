"""What runtimes give for a bundle is compared in steps of the output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.pipeline.tools import runtimes

OLD = Path(__file__).parents[3] / "build/runtimes/tflite-runtime/bin/python"


def test_the_same_runtime_gives_the_same_output(make_bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runtimes.main([sys.executable, sys.executable, "--bundle", str(make_bundle().path)])
    assert (
        "2 golden images: 0.0% of the values differ, by 0.00 steps on average and 0 at most" in capsys.readouterr().out
    )


def test_tflite_runtime_gives_the_bytes_of_ai_edge_litert(capsys: pytest.CaptureFixture[str]) -> None:
    if not (OLD.parent.parent / ".ready").is_file():
        pytest.skip("there is no environment with tflite-runtime: make runtimes")
    runtimes.main([sys.executable, str(OLD)])
    shown = capsys.readouterr().out
    assert "tflite-runtime 2.14.0 (XNNPACK 75 of 75) against" in shown
    assert shown.count("0.0% of the values differ, by 0.00 steps on average and 0 at most") == 4


def test_a_runtime_with_other_bytes_is_an_error(make_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([np.zeros((40, 8), np.int8), np.eye(40, 8, dtype=np.int8)])
    monkeypatch.setattr(runtimes, "_asked", lambda *_: ("a runtime", next(answers)))
    with pytest.raises(SystemExit, match="not give the same bytes"):
        runtimes.main([sys.executable, sys.executable, "--bundle", str(make_bundle().path)])


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
