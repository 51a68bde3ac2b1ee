"""Whether a `.tflite` file can be opened, found out by a process of its own.

    python -m slimcam.deploy.inference.probe MODULE FILE

The runtime trusts what it parses: a malformed file can crash the process that opens it, fill its memory or never end.
So a file that came from outside is opened and run once by a child, which imports the runtime and little else, before
the application opens it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from slimcam.deploy.common.child import environment
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.common.messages import last_line

SECONDS = 120.0
"""A 98 MB ResNet-50 opens and runs within a tenth of it on a Cortex-A53."""

MEMORY = 4 << 30
"""Bytes that a model may take."""

OURS = Path(__file__).parent.parent / "models"
"""What comes with slimcam, and not from outside."""

_sound: set[str] = set()
"""SHA-256 of the files that this process has had probed."""

_expendable = False

_ERRORS: dict[str, type[Exception]] = {"ValueError": ValueError, "RuntimeError": RuntimeError}


def expendable() -> None:
    """Says that this process was started to open a file, and may be taken down by it: `probe` then does nothing."""
    global _expendable
    _expendable = True


def probe(file: Path, module: str) -> None:
    """Opens and runs a file in a child, unless it comes with slimcam or was probed before.

    Args:
        file: the `.tflite` file.
        module: Name of the runtime's module with the `Interpreter` class.

    Raises:
        ValueError, RuntimeError: what the runtime raised, or what became of the child.
    """
    if _expendable or file.resolve().is_relative_to(OURS.resolve()):
        return
    digest = file_sha256(file)
    if digest in _sound:
        return
    try:
        child = subprocess.run(
            [sys.executable, "-m", "slimcam.deploy.inference.probe", module, str(file)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"it did not open and run within {SECONDS:.0f} s") from error
    verdict = _verdict(child)
    if verdict is not None:
        kind, text = verdict
        raise _ERRORS[kind](text)
    _sound.add(digest)


def _verdict(child: subprocess.CompletedProcess[str]) -> tuple[str, str] | None:
    if child.returncode < 0:
        return "ValueError", f"it crashes the TFLite runtime, {signal.Signals(-child.returncode).name}"
    with suppress(ValueError, KeyError, TypeError):
        found: dict[str, str] = json.loads(child.stdout)
        return (found["kind"], found["text"]) if found["kind"] in _ERRORS else None
    return "RuntimeError", last_line(child.stderr, f"the process that tried it ended with {child.returncode}")


def open_and_run(library: Any, file: Path) -> dict[str, str]:
    """The child's part: the error that the runtime raises, `kind` and `text`; empty ones for a sound file."""
    import numpy as np

    from slimcam.deploy.inference.xnnpack import opened

    rng = np.random.default_rng(0)
    try:
        interpreter = opened(library, 1, model_path=str(file))
        for tensor in interpreter.get_input_details():
            # Pixels are anything, indices and flags 0: that one there always is.
            if np.dtype(tensor["dtype"]) in (np.int8, np.uint8):
                pixels = rng.integers(0, 128, tensor["shape"])
                interpreter.set_tensor(tensor["index"], pixels.astype(tensor["dtype"]))
        interpreter.invoke()
        # Its end is part of the trial.
        del interpreter
    except RuntimeError as error:
        return {"kind": "RuntimeError", "text": str(error)}
    except Exception as error:  # bindings raise what they like of a file that is none
        return {"kind": "ValueError", "text": str(error)}
    return {"kind": "", "text": ""}


def sacrifice() -> None:
    """Limits this process's memory, and makes the kernel end it before others where memory is short."""
    with suppress(OSError, ValueError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError, ValueError, ImportError):
        # Not on every system.
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _main(module: str, file: str) -> None:
    from importlib import import_module

    sacrifice()
    sys.stdout.write(json.dumps(open_and_run(import_module(module), Path(file))))
    sys.stdout.flush()
    # All is said, and taking Python and the runtime down would take a tenth of the time.
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
