"""A model computed call by call."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import calls, functional
from slimcam.compression.pruning.samples import Inputs


class Walk:
    """The calls of a functional or sequential model on a batch, one after the other.

    Attributes:
        nodes: The calls (Keras nodes) in the order of computation.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        CompressionError: it has several inputs.
    """

    def __init__(self, model: Any, inputs: Inputs) -> None:
        first = functional(model).inputs
        if len(first) > 1:
            raise CompressionError(
                f"{model.name} has {len(first)} inputs, and samples are of one: rate its channels by its weights, "
                "criterion=outgoing"
            )
        self.nodes = calls(model)
        self._readers = Counter(id(tensor) for node in self.nodes for tensor in node.input_tensors)
        self._tensors: dict[int, Any] = {id(first[0]): keras.ops.convert_to_tensor(inputs)}

    def given(self, node: Any) -> list[Any]:
        """The tensors that a call reads, in order."""
        return [self._tensors[id(tensor)] for tensor in node.input_tensors]

    def compute(self, node: Any, **options: Any) -> list[Any]:
        """Makes a call, with further arguments if given, and gives its outputs."""
        if not node.is_input:
            arguments, keywords = node.arguments.fill_in(self._tensors)
            made = keras.tree.flatten(node.operation(*arguments, **{**keywords, **options}))
            # PyTorch would keep all tensors of before for a gradient.
            made = [keras.ops.stop_gradient(each) for each in made]
            self._tensors.update(zip(map(id, node.outputs), made, strict=True))
        return [self._tensors[id(tensor)] for tensor in node.outputs]

    def let_go(self, node: Any) -> None:
        """Forgets the tensors that a call was the last to read."""
        for tensor in node.input_tensors:
            self._readers[id(tensor)] -= 1
            if not self._readers[id(tensor)]:
                self._tensors.pop(id(tensor))
