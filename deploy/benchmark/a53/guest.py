"""What runs on the emulated ARM: slimcam's own device code.

    python -m slimcam.deploy.benchmark.a53.guest TASK FILE [ENTRY START END]

    outputs MODEL_OR_BUNDLE           what it computes, to compare with another machine
    profile MODEL ENTRY START END     one inference between the profiler's marks
    camera TRIAL ENTRY START END      the whole camera on some frames, see `camera_trial.py`

Prints JSON. `profiler.c` tells what the marks are.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.inference.interpreter import Interpreter, import_runtime
from slimcam.deploy.inference.model import BundledModel
from slimcam.deploy.inference.probe import expendable
from slimcam.deploy.latency.inputs import random_input

logger = logging.getLogger(__name__)

GETPGID, MARK = 155, 0x0A530000
WATCH, BEGIN, END, STAGE = range(4)
"""The profiler's marks."""

_system_call: Callable[..., int] = ctypes.CDLL(None).syscall
PROGRESS = "a53: "
"""How lines begin that say how far the guest is."""

LIBRARY = "libpywrap_litert_common.so"


def computed_outputs(path: Path) -> list[dict[str, str]]:
    """What a model gives for random pixels and, if it is a bundle, for its golden images.

    The same call on two machines tells whether they compute the same. Arrays are in base64, to the last bit.
    """
    arrays = []
    if path.is_dir():
        model = BundledModel(path, check=False)
        interpreter = model.interpreter
        arrays.append(model.outputs(model.bundle.golden_input))
    else:
        interpreter = Interpreter(path)
    arrays.extend(interpreter.run(*map(random_input, interpreter.inputs)))
    return [{"dtype": array.dtype.name, "base64": base64.b64encode(array.tobytes()).decode()} for array in arrays]


def run_profiled(path: Path, *addresses: int) -> dict[str, Any]:
    """Runs a model twice, the second time between marks, and describes what ran and where its code lies.

    Args:
        path: File of the model.
        addresses: Addresses in the TFLite library of the functions that the profiler's first mark is about.
    """
    import_runtime()
    base, file = mapped(LIBRARY)
    mark(WATCH, *(base + address for address in addresses))
    interpreter = Interpreter(path)
    interpreter.feed(*map(random_input, interpreter.inputs))
    interpreter.invoke()
    mark(BEGIN)
    interpreter.invoke()
    mark(END)
    delegation = interpreter.delegation()
    return {
        "runtime": interpreter.runtime.name,
        "runtime_version": interpreter.runtime.version,
        "delegate": delegation.delegate,
        "delegated": delegation.delegated,
        "left_out": list(delegation.left_out),
        "library": file,
        "maps": executable_maps(),
        "operators": operators(interpreter),
    }


def camera(path: Path, *addresses: int) -> dict[str, Any]:
    """Runs a camera on the frames of a trial, those after its first ones between marks, and tells what it saw.

    Args:
        path: JSON file of the trial.
        addresses: Addresses as of `run_profiled`.
    """
    # Other tasks run without what a camera imports.
    import cv2

    from slimcam.deploy.benchmark.a53.camera_trial import (
        NOTHING,
        Trial,
        frames_of,
        open_recognition,
        seen,
        stage_number,
    )

    # What other threads ran would be counted as a part of any stage.
    cv2.setNumThreads(1)
    trial = Trial.read(path)
    begun = 0

    def stage(name: str) -> None:
        mark(STAGE, stage_number(begun, name))

    recognition = open_recognition(trial, stage)
    base, file = mapped(LIBRARY)
    mark(WATCH, *(base + address for address in addresses))
    answers, images = [], []
    frames = frames_of(trial)
    while begun < trial.warmup + trial.frames:
        if begun == trial.warmup:
            # What starting left behind would be collected in one of the few frames that count.
            gc.collect()
            mark(BEGIN)
        stage("source")
        frame = next(frames, None)
        stage("rest")
        if frame is None:
            break
        view = recognition.see(frame)
        mark(STAGE, NOTHING)
        answers.append(seen(view))
        images.append(frame.image)
        begun += 1
        logger.info(f"{PROGRESS}frame {begun} of {trial.warmup + trial.frames}")
    mark(END)
    np.savez(trial.pictures, *images)
    return {"frames": answers, "library": file, "maps": executable_maps()}


def operators(interpreter: Interpreter) -> list[dict[str, Any]]:
    """Kind, inputs and output of each operator of the graph, in order."""
    library: Any = interpreter._interpreter
    tensors = {int(tensor["index"]): tensor for tensor in library.get_tensor_details()}

    def describe(index: int) -> dict[str, Any]:
        tensor = tensors[index]
        shape = [int(size) for size in tensor["shape"]]
        return {"name": str(tensor["name"]), "shape": shape, "dtype": np.dtype(tensor["dtype"]).name}

    return [
        {
            "kind": str(node["op_name"]),
            "inputs": [describe(int(index)) for index in node["inputs"] if int(index) in tensors],
            "output": describe(int(node["outputs"][0])),
        }
        for node in library._get_ops_details()
        if node["op_name"] != "DELEGATE"
    ]


def executable_maps() -> list[list[Any]]:
    """`[start, end, base, file]` of each executable mapping of this process; base is where the file begins."""
    bases: dict[str, int] = {}
    maps = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[5].startswith("/"):
            continue
        start, end = (int(number, 16) for number in fields[0].split("-"))
        bases.setdefault(fields[5], start)
        if "x" in fields[1]:
            maps.append([start, end, bases[fields[5]], fields[5]])
    return maps


def mapped(name: str) -> tuple[int, str]:
    """Base address and file of a library in this process.

    Raises:
        RuntimeError: it is not mapped.
    """
    for _, _, base, file in executable_maps():
        if Path(file).name == name:
            return int(base), str(file)
    raise RuntimeError(f"{name} is not mapped; this version of ai-edge-litert is not known")


def mark(which: int, *arguments: int) -> None:
    _system_call(*(ctypes.c_long(value) for value in (GETPGID, MARK + which, *arguments)))


TASKS: dict[str, Callable[..., Any]] = {"outputs": computed_outputs, "profile": run_profiled, "camera": camera}


if __name__ == "__main__":
    expendable()
    try:
        task, file, *numbers = sys.argv[1:]
        log_to_console()
        show(json.dumps(TASKS[task](Path(file), *map(int, numbers))))
    except (ValueError, OSError, ImportError, RuntimeError) as problem:
        sys.exit(str(problem))
