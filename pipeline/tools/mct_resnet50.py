"""How far Sony's Model Compression Toolkit can prune ResNet-50, in the environment of TensorFlow 2.15:

    python -m venv build/mct
    build/mct/bin/pip install tensorflow-cpu==2.15.1 model-compression-toolkit==2.6.1
    build/mct/bin/python pipeline/tools/mct_resnet50.py

Prints a line of JSON: the layers that lose channels, and what is left with as few channels as it allows. Which those
are does not depend on the weights, so they are random, and channels are ranked by their kernels' norms: the label-free
Hessian takes minutes, and decides no more than which channels of a layer go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import model_compression_toolkit as mct
import numpy as np
import tensorflow as tf
from model_compression_toolkit.core.common.pruning.channels_grouping import ChannelGrouping
from model_compression_toolkit.core.common.pruning.importance_metrics import importance_metric_factory as factory
from model_compression_toolkit.core.common.pruning.pruning_config import ImportanceMetric

_BYTES = 4
"""Of a weight, in the budget of the toolkit."""


class _Norms(factory.LFHImportanceMetric):  # type: ignore[misc]
    """Squared norms of kernels in place of the Hessian."""

    def get_entry_node_to_simd_score(self, entry_nodes: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
        kernels = {node: np.asarray(node.get_weights_by_keys("kernel")) for node in entry_nodes}
        scores = {node: np.square(each).sum(axis=tuple(range(each.ndim - 1))) for node, each in kernels.items()}
        grouping = ChannelGrouping(entry_nodes, self.fw_info)
        grouping.group_scores_by_simd_groups(scores)
        groups = grouping.simd_groups_indices
        return {node: np.array([scores[node][each].sum() for each in groups[node]]) for node in scores}, groups


def widths(model: Any) -> dict[str, int]:
    """Channels that each convolution computes."""
    return {each.name: each.filters for each in model.layers if isinstance(each, tf.keras.layers.Conv2D)}


def pruned(model: Any, weights: float) -> Any:
    """The largest model within a number of weights."""

    def images() -> Iterator[list[Any]]:
        yield [np.zeros((1, *model.input_shape[1:]), np.float32)]

    budget = mct.core.ResourceUtilization(weights_memory=weights * _BYTES)
    return mct.pruning.keras_pruning_experimental(model, budget, images)[0]


def least_weights(model: Any) -> float:
    """As few weights as the toolkit allows: it says so where it is asked for fewer."""
    try:
        pruned(model, 1)
    except Exception as error:  # it has no kind of its own
        found = re.search(r"current memory ([\d.]+)", str(error))
        if found is None:
            raise
        return float(found.group(1)) / _BYTES
    raise RuntimeError("the toolkit pruned down to one weight")


def main() -> None:
    factory.IMPORTANCE_METRIC_DICT[ImportanceMetric.LFH] = _Norms
    # The least that ResNet50 takes: the size of the image changes no weight.
    model = tf.keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3))
    smallest = pruned(model, least_weights(model) + 1)
    before, after = widths(model), widths(smallest)
    cut = {name: (count, after[name]) for name, count in before.items() if after[name] < count}
    found = {
        "layers": len(before),
        "channels": (sum(before.values()), sum(after.values())),
        "parameters": (model.count_params(), smallest.count_params()),
        "channels of pruned layers": sum(count for count, _ in cut.values()),
        "pruned layers": cut,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
