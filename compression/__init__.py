"""A Keras 3 model in, a smaller one out: structured pruning, quantization, TFLite files.

    graph = compression.trace(model)
    plan = compression.plan(graph, compression.importance(model, graph), compression.PruningRatioConfig(ratio=0.5))
    smaller = compression.cut(model, plan)
    print(compression.cost(smaller))

Quantization goes on from there: `equalize`, `to_tf_keras`, `quantize_aware`, `calibrate`, training, `int8_tflite`.
A library that knows no task and never imports `training`. Names are imported when they are first used, so that
`import compression` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "trace": "compression.pruning.graph",
    "importance": "compression.pruning.importance",
    "plan": "compression.pruning.plan",
    "PruningPlan": "compression.pruning.plan",
    "PruningRatioConfig": "compression.pruning.config",
    "cut": "compression.pruning.surgery",
    "mask": "compression.pruning.surgery",
    "cost": "compression.pruning.cost",
    "rescale_kernels": "compression.pruning.rescale",
    "recalibrate_batch_norm": "compression.pruning.batch_norm",
    "register_layer": "compression.layers.table",
    "LayerSpec": "compression.layers.spec",
    "Kernel": "compression.layers.weights",
    "no_macs": "compression.layers.spec",
    "equalize": "compression.quantization.equalize",
    "to_tf_keras": "compression.quantization.keras2",
    "quantize_aware": "compression.quantization.qat",
    "calibrate": "compression.quantization.qat",
    "float_tflite": "compression.export.tflite",
    "int8_tflite": "compression.export.tflite",
    "post_training_int8": "compression.export.tflite",
    "delegation_problems": "compression.export.delegation",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'compression' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
