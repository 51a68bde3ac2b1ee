"""Which operators of an int8 file to keep in float: as few as do, those first that int8 hurts most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.export.delegation import read_operators
from slimcam.compression.quantization.errors import LayerError, error_of
from slimcam.compression.quantization.post_training import Ranges, quantized
from slimcam.compression.quantization.schemes import LayerPolicy, Scheme
from slimcam.deploy.inference.interpreter import Interpreter


def operator_errors(content: bytes, ranges: Ranges, images: NDArray[np.float32]) -> dict[str, LayerError]:
    """What int8 in each operator alone, all others in float, does to the model's output, by the operator's output.

    Args:
        content: of a float `.tflite` file.
        ranges: as for `post_training.quantized`.
        images: `(N, ...)`, as the model's input.
    """
    names = [operator.output.name for operator in read_operators(content)]
    exact = _outputs(content, images)
    found = {}
    for name in names:
        others = {other: LayerPolicy.FLOAT.value for other in names if other != name}
        alone = quantized(content, Scheme.MIXED, ranges, others, float_ends=True)
        if error := error_of(_outputs(alone, images), exact):
            found[name] = error
    return found


def fewest(candidates: Sequence[str], suffices: Callable[[Sequence[str]], bool]) -> Sequence[str]:
    """The shortest beginning of a list that suffices, by bisection: a longer one is taken to suffice too.

    Args:
        candidates: Most urgent first; all of them together are taken to suffice.
        suffices: Whether some of them do.
    """
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if suffices(candidates[:middle]):
            high = middle
        else:
            low = middle + 1
    return candidates[:high]


def _outputs(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    interpreter = Interpreter(content)
    return np.stack([interpreter.run(image[np.newaxis]) for image in images])
