"""Whether the int8 outputs of TFLite runtimes are the same for the same bundle: `make runtimes`.

    python -m slimcam.pipeline.tools.runtimes PYTHON PYTHON ... [--bundle FOLDER]

Each PYTHON is the interpreter of an environment with one runtime, NumPy and OpenCV. Each computes the raw outputs of
the model for its golden images and for random ones, and tells how many operators its delegate runs. Every byte must be
the same, since a difference of one step grows along a network.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.common.child import environment
from slimcam.deploy.common.console import show
from slimcam.deploy.common.messages import last_line
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import BundledModel
from slimcam.deploy.inference.preprocessing import agreement, look_up

_RANDOM = 30
_OUTPUTS = "--outputs"


def raw_outputs(folder: Path) -> dict[str, Any]:
    """The runtime of this process, and what its interpreter gives for the images of a bundle, not dequantized."""
    model = BundledModel(folder, check=False)
    spec, interpreter = model.spec, model.interpreter
    random = np.random.default_rng(0).integers(0, 256, (_RANDOM, spec.height, spec.width, 3)).astype(np.uint8)
    images = [*model.bundle.golden_input, *random]
    found = np.concatenate([interpreter.run(look_up(model._table, image)[np.newaxis])[0] for image in images])
    delegation = interpreter.delegation()
    return {
        "runtime": f"{interpreter.runtime.name} {interpreter.runtime.version}",
        "delegate": f"{delegation.delegate} {delegation.delegated} of {delegation.total}",
        "dtype": found.dtype.name,
        "shape": found.shape,
        "values": base64.b64encode(np.ascontiguousarray(found).tobytes()).decode(),
    }


def _asked(python: Path, folder: Path) -> tuple[str, Any]:
    """The title of the runtime of another interpreter, and what it gives.

    Raises:
        RuntimeError: it cannot run.
    """
    child = subprocess.run(
        [str(python), "-m", "slimcam.pipeline.tools.runtimes", _OUTPUTS, str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(f"{python}: {last_line(child.stderr, f'ended with {child.returncode}')}")
    found = json.loads(child.stdout)
    values = np.frombuffer(base64.b64decode(found["values"]), found["dtype"]).reshape(found["shape"])
    return f"{found['runtime']} ({found['delegate']})", values


def compare(pythons: Sequence[Path], folder: Path) -> bool:
    """Prints how the outputs of the runtimes differ from those of the first one; gives whether all are the same."""
    (reference, expected), *others = (_asked(python, folder) for python in pythons)
    golden = len(expected) - _RANDOM
    for title, values in others:
        steps = np.abs(values.astype(np.int32) - expected.astype(np.int32))
        cosines = agreement(values.astype(np.float32), expected.astype(np.float32))
        show(f"{folder.name}: {title} against {reference}, {values[0].size} values an image")
        for kind, chosen in (("golden", slice(0, golden)), ("random", slice(golden, None))):
            show(
                f"  {len(steps[chosen])} {kind} images: {np.mean(steps[chosen] > 0):.1%} of the values differ, by "
                f"{steps[chosen].mean():.2f} steps on average and {steps[chosen].max()} at most; "
                f"least cosine {cosines[chosen].min():.5f}"
            )
    return all(np.array_equal(values, expected) for _, values in others)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; ends with an error where a byte differs."""
    parser = argparse.ArgumentParser(prog="python -m slimcam.pipeline.tools.runtimes", description=__doc__)
    parser.add_argument("python", type=Path, nargs="*", help="interpreters of the environments, two or more")
    parser.add_argument("--bundle", type=Path, action="append", help="folder of a bundle; those that come with slimcam")
    parser.add_argument(_OUTPUTS, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.outputs is not None:
        sys.stdout.write(json.dumps(raw_outputs(options.outputs)))
        return
    if len(options.python) < 2:
        parser.error("give two interpreters or more; make runtimes does")
    same = [compare(options.python, folder) for folder in options.bundle or (DETECTOR, RECOGNIZER)]
    if not all(same):
        raise SystemExit("the runtimes do not give the same bytes")


if __name__ == "__main__":
    main()
