"""Start-up time and memory of a model, measured in a process of its own.

    python -m slimcam.deploy.latency.start FILE THREADS

Only a fresh process shows what a model costs: in a used one, libraries are warm and peak memory is another's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from slimcam.deploy.common.child import environment
from slimcam.deploy.common.console import show
from slimcam.deploy.common.messages import last_line
from slimcam.deploy.inference.interpreter import Interpreter, import_runtime
from slimcam.deploy.inference.probe import expendable
from slimcam.deploy.latency.inputs import random_input
from slimcam.deploy.latency.record import Start


def measure_start(model: Path, threads: int) -> Start:
    """Opens the .tflite file and runs it once in a new process.

    Raises:
        RuntimeError: the model cannot be opened or run, or that process was killed, for example for want of memory.
    """
    child = subprocess.run(
        [sys.executable, "-m", "slimcam.deploy.latency.start", str(model), str(threads)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(last_line(child.stderr, f"{model}: the process was ended by {child.returncode}"))
    return Start(**json.loads(child.stdout))


def peak_rss_bytes() -> int | None:
    """Peak resident memory of this process; None where the system does not tell.

    `getrusage` is not used: on Linux a child inherits its parent's peak there.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _measure(model: Path, threads: int) -> Start:
    # Importing the library is not the model's cost.
    import_runtime()
    baseline = peak_rss_bytes()
    begin = time.perf_counter()
    interpreter = Interpreter(model, threads)
    ready = time.perf_counter()
    interpreter.feed(*map(random_input, interpreter.inputs))
    fed = time.perf_counter()
    interpreter.invoke()
    done = time.perf_counter()
    peak = peak_rss_bytes()
    return Start(
        init_ms=round((ready - begin) * 1e3, 4),
        first_ms=round((done - fed) * 1e3, 4),
        peak_rss_bytes=peak,
        model_rss_bytes=None if peak is None or baseline is None else peak - baseline,
    )


if __name__ == "__main__":
    expendable()
    try:
        show(json.dumps(asdict(_measure(Path(sys.argv[1]), int(sys.argv[2])))))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(str(error))
