"""Runs slimcam's device code on an emulated Cortex-A53: what it computes, and what it executes for that."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam import deploy
from slimcam.deploy.benchmark.a53 import guest
from slimcam.deploy.benchmark.a53.dump import read_dump
from slimcam.deploy.benchmark.a53.elf import Functions
from slimcam.deploy.benchmark.a53.guest import PROGRESS
from slimcam.deploy.benchmark.a53.profile import Profile, load_profile, save_profile
from slimcam.deploy.benchmark.a53.sysroot import Sysroot
from slimcam.deploy.common.files import file_sha256

logger = logging.getLogger(__name__)

# The function of XNNPACK that runs one operator (src/operator-run.c), and that of TFLite that loops over the nodes.
RUN_OPERATOR = "xnn_run_operator_with_index"
RUN_GRAPH = "_ZN6tflite8Subgraph10InvokeImplEv"
# Of the largest output of a float model.
FLOAT_TOLERANCE = 1e-3


def parity_check(sysroot: Sysroot, model: Path) -> str | None:
    """Checks that the emulated ARM computes what this machine does.

    Args:
        sysroot: Emulated device.
        model: a .tflite file, fed with random pixels, or a bundle, whose golden images are embedded as well.

    Returns:
        How the outputs differ; None where those of an int8 model are the same bit for bit, or those of a float model,
        whose sums are rounded in another order, within `FLOAT_TOLERANCE`.

    Raises:
        RuntimeError: the model does not run there.
    """
    there, here = ask(sysroot, None, "outputs", str(model.resolve())), guest.computed_outputs(model)
    return differences([_array(entry) for entry in there], [_array(entry) for entry in here])


def differences(there: Sequence[NDArray[Any]], here: Sequence[NDArray[Any]]) -> str | None:
    """Compares outputs, the model's own last, as `parity_check` tells."""
    exact = here[-1].dtype != np.float32
    for ours, other in zip(here, there, strict=True):
        gap = np.abs(ours.astype(np.float64) - other.astype(np.float64))
        allowed = 0.0 if exact else FLOAT_TOLERANCE * float(np.abs(ours).max())
        wrong = int(np.sum(~(gap <= allowed)))
        if wrong:
            return (
                f"the emulated ARM computes other outputs than this machine: {wrong} of {gap.size} differ, "
                f"by at most {gap.max():.3g}"
            )
    return None


def _array(entry: dict[str, str]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(entry["base64"]), entry["dtype"])


def profile_model(sysroot: Sysroot, model: Path, *, fresh: bool = False) -> Profile:
    """Counts what one inference of a model executes; a model that was profiled before is looked up.

    Args:
        sysroot: Emulated device.
        model: a .tflite file.
        fresh: profile it again.

    Raises:
        RuntimeError: the model does not run there.
    """
    stored = stored_profile(sysroot, model)
    if stored.is_file() and not fresh:
        return load_profile(stored)
    functions = sysroot.functions()
    with tempfile.TemporaryDirectory(prefix="slimcam-a53-") as scratch:
        dump = Path(scratch) / "blocks.txt"
        answer = ask(sysroot, f"out={dump}", "profile", str(model.resolve()), *watched(functions))
        found = read_dump(dump, answer, functions)
    save_profile(found, stored)
    return found


def stored_profile(sysroot: Sysroot, model: Path) -> Path:
    """Where the profile of a model is kept: the name changes with the model, the device, and how profiles are made."""
    key = hashlib.sha256()
    for part in (sysroot.digest, file_sha256(model), *(module.read_text() for module in _PROFILING)):
        key.update(part.encode())
    return sysroot.folder.parent / "profiles" / f"{key.hexdigest()[:24]}.json.gz"


_PROFILING = [Path(__file__).parent / name for name in ("assignment.py", "dump.py", "guest.py", "profile.py")]


def watched(functions: Functions) -> tuple[str, ...]:
    """What the profiler's first mark is about, as the guest's last arguments: addresses in the TFLite library."""
    return tuple(map(str, (functions.find(RUN_OPERATOR)[0], *functions.find(RUN_GRAPH))))


def ask(sysroot: Sysroot, plugin_arguments: str | None, *arguments: str, progress: bool = False) -> Any:
    """Runs `slimcam.deploy.benchmark.a53.guest` on the emulated ARM.

    Args:
        plugin_arguments: Arguments of the profiler; `None` runs without it.
        arguments: Arguments of the guest.
        progress: Whether to log the lines of the guest that say how far it is.

    Returns:
        What the guest prints.

    Raises:
        RuntimeError: it fails.
    """
    with tempfile.TemporaryDirectory(prefix="slimcam-a53-") as scratch:
        # Only this package: the folder that it is in may hold libraries of this machine.
        package = Path(scratch) / "slimcam"
        package.mkdir()
        (package / "deploy").symlink_to(Path(deploy.__path__[0]).resolve())
        command = sysroot.command(
            Path(scratch), plugin_arguments, ["-m", "slimcam.deploy.benchmark.a53.guest", *arguments]
        )
        with (Path(scratch) / "answer").open("w+") as answer:
            pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": answer, "stderr": subprocess.PIPE, "text": True}
            with subprocess.Popen(command, **pipes) as process:
                printed = []
                try:
                    for line in process.stderr or ():
                        if progress and line.startswith(PROGRESS):
                            logger.info(line.rstrip())
                        elif line.strip():
                            printed.append(line.strip())
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                why = printed[-1] if printed else f"the emulator was ended by {process.returncode}"
                raise RuntimeError(f"on the emulated ARM: {why}")
            answer.seek(0)
            return json.loads(answer.read().strip().splitlines()[-1])
