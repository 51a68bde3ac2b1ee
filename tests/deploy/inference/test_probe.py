"""A file that came from outside is opened by a child first: what it does to the runtime, it does to the child."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.common.child import environment
from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.inference import probe as probing
from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.model import Recognizer

FAKE = """
import os, time

class Interpreter:
    def __init__(self, model_path, num_threads):
        {what}
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a runtime that does something else than opening a file; gives the name of its module."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(what: str) -> str:
        (tmp_path / "fake_runtime.py").write_text(FAKE.format(what=what))
        return "fake_runtime"

    return make


@pytest.fixture
def file(tmp_path: Path, int8_model: bytes) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(int8_model)
    probing._sound.clear()
    return path


def test_a_file_that_crashes_the_runtime_is_one_line(file: Path, fake: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="it crashes the TFLite runtime, SIGABRT"):
        probing.probe(file, fake("os.abort()"))


def test_a_file_that_never_opens_is_one_line(
    file: Path, fake: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "SECONDS", 0.5)
    with pytest.raises(ValueError, match="did not open and run within"):
        probing.probe(file, fake("time.sleep(60)"))


def test_what_the_runtime_says_is_passed_on(file: Path, fake: Callable[[str], str]) -> None:
    for raised in (RuntimeError, ValueError):
        with pytest.raises(raised, match="the reason"):
            probing.probe(file, fake(f"raise {raised.__name__}('the reason')"))


def test_a_file_is_tried_once_and_ours_never(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: started.append(given) or run(*given, **options))
    Interpreter(file)
    Interpreter(file)
    assert len(started) == 1
    Recognizer(RECOGNIZER)
    assert len(started) == 1
    file.write_bytes(file.read_bytes() + b"another")
    Interpreter(file)
    assert len(started) == 2


def test_a_crash_is_an_error_of_the_bundle(make_bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashed(*_: object) -> None:
        raise ValueError("it crashes the TFLite runtime, SIGSEGV")

    monkeypatch.setattr("slimcam.deploy.inference.interpreter.probe", crashed)
    with pytest.raises(
        BundleError, match=r"not a whole TFLite model \(it crashes the TFLite runtime, SIGSEGV\)"
    ) as error:
        Recognizer(make_bundle())
    assert "\n" not in str(error.value)


def test_the_child_imports_the_runtime_and_little_else(file: Path) -> None:
    listed = (
        "import sys, slimcam.deploy.inference.probe as probe; import ai_edge_litert.interpreter as runtime; "
        f"from pathlib import Path; probe.open_and_run(runtime, Path({str(file)!r})); print(*sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", listed], env=environment(), capture_output=True, text=True, check=True
    )
    heavy = {"cv2", "hydra", "keras", "tensorflow", "aiohttp", "slimcam.deploy.inference.model"}
    assert not heavy & set(child.stdout.split())
