"""How much of `keras.applications` compression covers: `python -m slimcam.compression.coverage quantize --json FILE`.

Every constructor is built with random weights at a small input, its batch normalization recalibrated on noise, and
quantized dense and pruned: normal form, int8 ranges, TFLite, and what XNNPACK takes of it. A row for each model.

`prune` in the place of `quantize`: see `slimcam.compression.pruning.coverage`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Smallest inputs that the constructors take, where it is not `_SIDE`."""
_SIDE = 32
_BATCH = 8


@dataclass
class Row:
    """One model.

    Attributes:
        model: Constructor in `keras.applications`.
        pruned: Share of the channels that was pruned.
        normal_error: Largest difference of the normal form's output, as a share of the model's largest.
        delegated_share: Share of the int8 file's operators that XNNPACK runs.
        operators: Their number.
        left_out: Operators that XNNPACK does not run.
        sqnr_db: Median over the layers of `layer_sqnr`.
        worst_sqnr_db: Their minimum.
        seconds: From the built model to the file.
        error: What went wrong, in one line; empty for a model with a file.
    """

    model: str
    pruned: float = 0.0
    normal_error: float | None = None
    delegated_share: float | None = None
    operators: int | None = None
    left_out: list[str] = field(default_factory=list)
    sqnr_db: float | None = None
    worst_sqnr_db: float | None = None
    seconds: float | None = None
    error: str = ""


def constructors() -> list[str]:
    """Names of the models in `keras.applications`."""
    import keras

    return [name for name in dir(keras.applications) if name[0].isupper()]


def quantized(name: str, ratio: float = 0.0) -> Row:
    """Quantizes one model of `keras.applications` after training, without training it."""
    import keras
    import numpy as np

    from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm

    row = Row(name, ratio)
    side = _SIDES.get(name, _SIDE)
    images = np.random.default_rng(0).uniform(-1, 127 / 128, (_BATCH, side, side, 3)).astype(np.float32)
    try:
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(
            weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
        )
        recalibrate_batch_norm(model, [images])
        started = time.monotonic()
        _quantize(model, images, ratio, row)
        row.seconds = round(time.monotonic() - started, 1)
    except Exception as error:  # whatever it is, it is what the row is for
        row.error = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return row


def _quantize(model: Any, images: Any, ratio: float, row: Row) -> None:
    import numpy as np

    from slimcam import compression
    from slimcam.compression.quantization.errors import layer_sqnr
    from slimcam.deploy.inference.interpreter import Interpreter

    if ratio:
        model = compression.normalize(model).model
        graph = compression.trace(model)
        scores = compression.importance(model, graph)
        model = compression.cut(model, compression.plan(graph, scores, compression.PruningRatioConfig(ratio=ratio)))
        compression.recalibrate_batch_norm(model, [images])
    normal = compression.normalize(model, int8=True).model
    expected, given = (np.asarray(each(images, training=False)) for each in (model, normal))
    row.normal_error = float(np.abs(given - expected).max() / np.abs(expected).max())
    compression.equalize(normal, [images])
    trainable = compression.quantize_aware(compression.to_tf_keras(normal), input_range=(-1.0, 127 / 128))
    compression.calibrate(trainable, [images])
    errors = list(layer_sqnr(trainable, images).values())
    row.sqnr_db, row.worst_sqnr_db = round(float(np.median(errors)), 1), round(float(np.min(errors)), 1)
    delegation = Interpreter(compression.int8_tflite(trainable)).delegation()
    row.operators, row.left_out = delegation.total, list(delegation.left_out)
    row.delegated_share = round(delegation.delegated / delegation.total, 4)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | pruned | delegated | left out | SQNR dB, median (worst) layer | normal form's error | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.error:
            lines.append(f"| {row.model} | {row.pruned:.0%} | - | {row.error} | | | |")
            continue
        assert row.operators is not None
        taken = row.operators - len(row.left_out)
        lines.append(
            f"| {row.model} | {row.pruned:.0%} | {taken} of {row.operators} | {', '.join(row.left_out)} | "
            f"{row.sqnr_db} ({row.worst_sqnr_db}) | {row.normal_error:.0e} | {row.seconds} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; prints the table and writes the rows."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["prune"]:
        from slimcam.compression.pruning.coverage import main as prune

        return prune(given[1:])
    parser = argparse.ArgumentParser(prog="python -m slimcam.compression.coverage", description=__doc__)
    parser.add_argument("what", choices=["quantize", "prune"])
    parser.add_argument("--only", help="names of constructors, comma-separated; all of keras.applications if absent")
    parser.add_argument("--ratio", type=float, default=0.0, help="share of the channels to prune first")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the rows are written")
    options = parser.parse_args(given)
    rows = []
    for name in options.only.split(",") if options.only else constructors():
        rows.append(_in_process(name, options.ratio))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(table(rows))
    return None


def _in_process(name: str, ratio: float) -> Row:
    """A model in a process of its own: the converter may take it down, and memory comes back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(quantized, name, ratio).result()
        except BrokenProcessPool:
            return Row(name, ratio, error="the process died")


if __name__ == "__main__":
    main()
