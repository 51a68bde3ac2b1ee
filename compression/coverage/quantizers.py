"""Two quantizers of the same float model side by side: `python -m slimcam.compression.coverage quantizers`.

Models of `keras.applications` with random weights, in normal form and equalized, are made int8 by TFLite's converter
with a representative data set, and by ai-edge-quantizer, with the same images. Random networks magnify any difference,
so that the cosines compare the tools and say nothing of quality.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slimcam.deploy.common.console import show
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.preprocessing import agreement, dequantized, quantized

_SIDE = 64
_IMAGES = 16
_TIMES = 3


def _by_converter(model: Any, images: Any) -> bytes:
    from slimcam.compression.export import tflite

    converter = tflite._int8(tflite._converter(model))
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    return tflite._convert(converter, model.name)


def _by_quantizer(model: Any, images: Any) -> bytes:
    from slimcam import compression

    content: bytes = compression.post_training_int8(model, [images])
    return content


TOOLS: dict[str, Callable[[Any, Any], bytes]] = {"converter": _by_converter, "ai-edge-quantizer": _by_quantizer}


def rows(name: str, times: int = _TIMES) -> list[str]:
    """A row of the table for each tool: what it makes of a model of `keras.applications`, and how long it takes."""
    import keras

    from slimcam import compression

    keras.utils.set_random_seed(0)
    shape = (_SIDE, _SIDE, 3)
    model = getattr(keras.applications, name)(weights=None, include_top=False, pooling="avg", input_shape=shape)
    images = np.random.default_rng(0).uniform(-1, 127 / 128, (_IMAGES, *shape)).astype(np.float32)
    compression.recalibrate_batch_norm(model, [images])
    normal = compression.normalize(model, int8=True).model
    compression.equalize(normal, [images])
    wanted = np.asarray(normal(images, training=False))
    found = []
    for tool, make in TOOLS.items():
        seconds = []
        for _ in range(times):
            started = time.process_time()
            content = make(normal, images)
            seconds.append(time.process_time() - started)
        interpreter = Interpreter(content)
        given = [interpreter.run(quantized(image[np.newaxis], interpreter.input))[0] for image in images]
        cosine = float(agreement(dequantized(np.concatenate(given), interpreter.output), wanted).mean())
        delegation = interpreter.delegation()
        found.append(
            f"| {name} | {tool} | {delegation.delegated} of {delegation.total} | {cosine:.3f} | "
            f"{min(seconds):.1f} to {max(seconds):.1f} |"
        )
    return found


def main(arguments: Sequence[str]) -> None:
    """The command line; prints the table."""
    parser = argparse.ArgumentParser(prog="python -m slimcam.compression.coverage quantizers", description=__doc__)
    parser.add_argument("--only", default="MobileNetV2,EfficientNetB0", help="names of models; %(default)s")
    options = parser.parse_args(arguments)
    lines = [
        f"| model, {_SIDE}x{_SIDE} | tool | delegated | cosine to float | seconds of processor time |",
        "|---|---|--:|--:|--:|",
    ]
    show("\n".join([*lines, *(row for name in options.only.split(",") for row in rows(name))]))
