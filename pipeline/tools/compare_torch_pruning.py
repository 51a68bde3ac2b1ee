"""Pruning beside Torch-Pruning on the same architectures: `python -m slimcam.pipeline.tools.compare_torch_pruning`.

Torch-Pruning runs in an environment of its own:

    python -m venv build/torch
    build/torch/bin/pip install torch torchvision timm torch-pruning==1.6.1
    python -m slimcam.pipeline.tools.compare_torch_pruning speed --python build/torch/bin/python

`speed` traces, plans and cuts 70 % of ResNet-50's channels by turns with one and the other, each on one thread; `rows`
removes half of the channels of the counterpart of each model of `keras.applications`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import write_text

_ROWS = Path(__file__).with_name("torch_pruning_rows.py")
Seconds = tuple[float, float]
"""On the clock, and of processor time."""


class _Other:
    """Torch-Pruning in its own process, which answers line by line."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self._process = subprocess.Popen(
            [str(python), str(_ROWS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(line, file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise SystemExit(
                f"{self._python} does not answer: its environment needs torch, torchvision, timm and torch-pruning"
            ) from error

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _pruned(model: Any) -> Any:
    from slimcam import compression

    graph = compression.trace(model)
    scores = compression.importance(model, graph)
    return compression.cut(model, compression.plan(graph, scores, compression.PruningRatioConfig(ratio=0.7)), graph)


def _timed(function: Callable[[Any], Any], model: Any) -> Seconds:
    clock, cpu = time.monotonic(), time.process_time()
    function(model)
    return time.monotonic() - clock, time.process_time() - cpu


def speed(other: _Other, turns: int) -> str:
    """Median times of warm runs by turns, as a table, and of Keras making the layers of the result again."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    import keras

    model = keras.applications.ResNet50(weights=None)
    small = _pruned(model)
    found: dict[str, list[Seconds]] = {"slimcam": [], "Torch-Pruning": [], "Keras: clone_model of the cut network": []}
    ours, theirs, floor = found.values()
    for _ in range(turns + 1):
        ours.append(_timed(_pruned, model))
        theirs.append(other.ask("time ResNet50"))
        floor.append(_timed(keras.models.clone_model, small))
    lines = ["| ResNet-50, 70 % | seconds | processor seconds | range |", "|---|---|---|---|"]
    for name, times in found.items():
        clock, cpu = ([each[place] for each in times[1:]] for place in (0, 1))
        lines.append(
            f"| {name} | {statistics.median(clock):.2f} | {statistics.median(cpu):.2f} "
            f"| {min(cpu):.2f} to {max(cpu):.2f} |"
        )
    return "\n".join(lines)


def rows(other: _Other, names: Sequence[str], file: Path) -> str:
    """A row for each model, kept in a file, as a table."""
    found = json.loads(file.read_text()) if file.is_file() else []
    for name in names:
        if not any(row["model"] == name for row in found):
            found.append(other.ask(name))
            write_text(file, json.dumps(found, indent=2) + "\n")
    lines = ["| model | parameters, M | frozen | error |", "|---|---|---|---|"]
    for row in found:
        before, after = row.get("parameters", (0, 0))
        lines.append(
            f"| {row['model']} | {before / 1e6:.2f} -> {after / 1e6:.2f} | {row.get('frozen_share', 0):.1%} | "
            f"{row.get('error', '')} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.pipeline.tools.compare_torch_pruning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=["speed", "rows"])
    parser.add_argument("--python", type=Path, required=True, help="Python of the environment of Torch-Pruning")
    parser.add_argument("--turns", type=int, default=10, help="timed runs of each (%(default)s)")
    parser.add_argument("--only", help="models of keras.applications, comma-separated; all if absent")
    parser.add_argument(
        "--json", type=Path, default=Path("torch_pruning.json"), help="where rows are kept (%(default)s)"
    )
    options = parser.parse_args(arguments)
    other = _Other(options.python)
    if options.what == "speed":
        show(speed(other, options.turns))
    else:
        from slimcam.compression.coverage.applications import constructors

        show(rows(other, options.only.split(",") if options.only else constructors(), options.json))
    other.close()


if __name__ == "__main__":
    main()
