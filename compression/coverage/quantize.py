"""Coverage of quantization: `python -m slimcam.compression.coverage quantize --json FILE`.

Every constructor of `keras.applications` is built with random weights at a small input, its batch normalization
recalibrated on noise, and quantized dense and pruned, after training and with a few steps of quantization-aware
training: normal form, int8 ranges, TFLite, and what XNNPACK takes of it. A row for each model, share of pruned channels
and scheme is written to FILE as soon as it is known; the same command goes on where it was stopped.

`examples` in the place of `quantize` does the same for the small networks of `slimcam.compression.examples`, one for
each thing that networks do.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from slimcam.compression.coverage.applications import constructors
from slimcam.compression.examples import EXAMPLES
from slimcam.deploy.common.console import PACKAGES, log_to_console, show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.common.messages import did_you_mean, first_line

logger = logging.getLogger(__name__)

SCHEMES = ("ptq", "qat")
_SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
"""Smallest inputs that the constructors take, where it is not `_SIDE`."""
_SIDE = 32
_BATCH = 8
_COMPARED = 4
"""Images on which the file is compared with its model."""
_STEPS = 3
"""Steps of quantization-aware training: enough to show that it trains."""


@dataclass
class Row:
    """One model, quantized in one way.

    Attributes:
        model: Constructor in `keras.applications`, or an example.
        pruned: Share of the channels that was pruned.
        scheme: `ptq` for quantization after training, `qat` for quantization-aware training.
        normal_error: Largest difference of the normal form's output, as a share of the model's largest.
        delegated_share: Share of the int8 file's operators that XNNPACK runs.
        operators: Their number.
        left_out: Operators that XNNPACK does not run.
        sqnr_db: Median over the layers of `layer_sqnr`; after training nothing is simulated, and there is none.
        worst_sqnr_db: Their minimum.
        worst_layer: Layer that has it.
        file_steps: Largest mean difference between an operator of the file and its layers, see `errors.file_steps`.
        compared: Number of operators that were compared.
        seconds: From the built model to the file.
        error: What went wrong, in one line; empty for a model with a file.
    """

    model: str
    pruned: float = 0.0
    scheme: str = "qat"
    normal_error: float | None = None
    delegated_share: float | None = None
    operators: int | None = None
    left_out: list[str] = field(default_factory=list)
    sqnr_db: float | None = None
    worst_sqnr_db: float | None = None
    worst_layer: str = ""
    file_steps: float | None = None
    compared: int | None = None
    seconds: float | None = None
    error: str = ""

    @property
    def key(self) -> tuple[str, float, str]:
        return self.model, self.pruned, self.scheme


def quantized(name: str, ratio: float = 0.0, schemes: Sequence[str] = SCHEMES) -> list[Row]:
    """Quantizes one model of `keras.applications`, or one example, by each scheme."""
    import keras

    from slimcam import compression

    row = Row(name, ratio)
    started = time.monotonic()
    try:
        keras.utils.set_random_seed(0)
        model = _built(name)
        images = _noise(model)
        compression.recalibrate_batch_norm(model, [images])
        started = time.monotonic()
        normal = _normal(model, images, ratio, row)
    except Exception as error:  # whatever it is, it is what the row is for
        return [replace(row, scheme=scheme, error=_text(error)) for scheme in schemes]
    shared, rows = time.monotonic() - started, []
    for scheme in schemes:
        started, own = time.monotonic(), replace(row, scheme=scheme)
        try:
            _SCHEMES[scheme](normal, images, own)
            own.seconds = round(shared + time.monotonic() - started, 1)
        except Exception as error:
            own.error = _text(error)
        rows.append(own)
    return rows


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _built(name: str) -> Any:
    import keras

    if name in EXAMPLES:
        return EXAMPLES[name]()
    if name not in constructors():
        raise ValueError(f"no model of that name{did_you_mean(name, [*EXAMPLES, *constructors()])}")
    side = _SIDES.get(name, _SIDE)
    return getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
    )


def _noise(model: Any) -> Any:
    """A batch for the model: an array, or a list of one for each input."""
    import numpy as np

    rng = np.random.default_rng(0)
    batch = [rng.uniform(-1, 127 / 128, (_BATCH, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    return batch[0] if len(batch) == 1 else batch


def _normal(model: Any, images: Any, ratio: float, row: Row) -> Any:
    """The model, pruned, in normal form for int8."""
    import numpy as np
    from keras import tree

    from slimcam import compression

    if ratio:
        model = compression.normalize(model).model
        graph = compression.trace(model)
        scores = compression.importance(model, graph)
        model = compression.cut(model, compression.plan(graph, scores, compression.PruningRatioConfig(ratio=ratio)))
        compression.recalibrate_batch_norm(model, [images])
    normal = compression.normalize(model, int8=True).model
    pairs = zip(*(map(np.asarray, tree.flatten(each(images, training=False))) for each in (model, normal)), strict=True)
    row.normal_error = max(float(np.abs(given - wanted).max() / np.abs(wanted).max()) for wanted, given in pairs)
    return normal


def _ptq(normal: Any, images: Any, row: Row) -> None:
    from slimcam import compression

    _delegated(compression.post_training_int8(normal, [images]), row)


def _qat(normal: Any, images: Any, row: Row) -> None:
    import numpy as np
    from keras import tree

    from slimcam import compression
    from slimcam.compression.quantization import qat
    from slimcam.compression.quantization.errors import file_steps

    compression.equalize(normal, [images])
    trainable = compression.quantize_aware(compression.to_tf_keras(normal), input_range=qat.PIXEL_RANGE)
    compression.calibrate(trainable, [images])
    qat.freeze_batch_norm(trainable)
    _train(trainable, images, normal(images, training=False))
    errors = compression.layer_sqnr(trainable, images)
    row.worst_layer = min(errors, key=lambda layer: errors[layer])
    row.sqnr_db = round(float(np.median(list(errors.values()))), 1)
    row.worst_sqnr_db = round(errors[row.worst_layer], 1)
    content = compression.int8_tflite(trainable)
    steps = file_steps(content, trainable, [each[:_COMPARED] for each in tree.flatten(images)])
    row.file_steps, row.compared = round(max(steps.values()), 3), len(steps)
    _delegated(content, row)


_SCHEMES: dict[str, Callable[[Any, Any, Row], None]] = {"ptq": _ptq, "qat": _qat}


def _train(model: Any, images: Any, expected: Any) -> None:
    """A few steps towards the outputs of the float model."""
    import tensorflow as tf
    import tf_keras

    from slimcam.compression.quantization.qat import fixed_ranges

    optimizer = tf_keras.optimizers.SGD(1e-3, global_clipnorm=1.0)
    with fixed_ranges(model):
        for _ in range(_STEPS):
            with tf.GradientTape() as tape:
                given = tf.nest.flatten(model(images, training=True))
                pairs = zip(given, tf.nest.flatten(expected), strict=True)
                loss = tf.add_n([tf.reduce_mean((one - tf.convert_to_tensor(other)) ** 2) for one, other in pairs])
            gradients = tape.gradient(loss, model.trainable_variables)
            found = [
                (grad, own) for grad, own in zip(gradients, model.trainable_variables, strict=True) if grad is not None
            ]
            # The gradients of random weights may be of any size: clipping by their norm overflows.
            largest = tf.reduce_max([tf.reduce_max(tf.abs(grad)) for grad, _ in found])
            optimizer.apply_gradients([(grad / largest, own) for grad, own in found])


def _delegated(content: bytes, row: Row) -> None:
    from slimcam.deploy.inference.interpreter import Interpreter

    delegation = Interpreter(content).delegation()
    row.operators, row.left_out = delegation.total, list(delegation.left_out)
    row.delegated_share = round(delegation.delegated / delegation.total, 4)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | pruned | scheme | delegated | left out | SQNR dB, median (worst) layer | file, steps "
        "| normal form's error | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        begin = f"| {row.model} | {row.pruned:.0%} | {row.scheme} |"
        if row.error:
            lines.append(f"{begin} - | {row.error} | | | | |")
            continue
        assert row.operators is not None
        taken = row.operators - len(row.left_out)
        quality = "" if row.sqnr_db is None else f"{row.sqnr_db} ({row.worst_sqnr_db})"
        steps = "" if row.file_steps is None else f"{row.file_steps}"
        lines.append(
            f"{begin} {taken} of {row.operators} | {_counted(row.left_out)} | {quality} | {steps} | "
            f"{row.normal_error:.0e} | {row.seconds} |"
        )
    return "\n".join(lines)


def _counted(left_out: Sequence[str]) -> str:
    kinds = [text.partition(" ")[2] for text in left_out]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def main(what: str, arguments: Sequence[str]) -> None:
    """The command line of `quantize` and `examples`; prints the table and writes the rows."""
    parser = argparse.ArgumentParser(prog=f"python -m slimcam.compression.coverage {what}", description=__doc__)
    parser.add_argument("--only", help="names of models, comma-separated, in this order; all if absent")
    parser.add_argument("--ratios", default="0,0.5", help="shares of the channels to prune first; %(default)s")
    parser.add_argument("--retry", action="store_true", help="do rows with an error again")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the rows are kept")
    options = parser.parse_args(arguments)
    log_to_console(to_stdout=PACKAGES)
    names = options.only.split(",") if options.only else list(EXAMPLES) if what == "examples" else constructors()
    rows = read_rows(options.json)
    for name in names:
        for ratio in map(float, options.ratios.split(",")):
            done = {row.key for row in rows if not (options.retry and row.error)}
            if schemes := [scheme for scheme in SCHEMES if (name, ratio, scheme) not in done]:
                new = _in_process(name, ratio, schemes)
                rows = [row for row in rows if row.key not in {each.key for each in new}] + new
                logger.info("\n".join(table(new).splitlines()[2:]))
                write_text(options.json, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    show(table([row for row in rows if row.model in names]))


def read_rows(file: Path) -> list[Row]:
    """The rows that are done, none where there is no such file.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        return [Row(**row) for row in json.loads(file.read_text())] if file.is_file() else []
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no rows of this command ({error}); give another file") from error


def _in_process(name: str, ratio: float, schemes: Sequence[str]) -> list[Row]:
    """A model in a process of its own: the converter may take it down, and memory comes back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(quantized, name, ratio, schemes).result()
        except BrokenProcessPool:
            return [Row(name, ratio, scheme, error="the process died") for scheme in schemes]
