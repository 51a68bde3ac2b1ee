"""A Keras 3 model in, a smaller one out: structured pruning, quantization, TFLite files.

    model = compression.load_model("my.keras")
    compression.compress(model, scheme="float16").save("my.tflite")

    pruned = compression.prune(model, target="macs", ratio=0.5)
    print(pruned)
    pruned.model.save("smaller.keras")

Quantization-aware training goes on from there: `equalize`, `to_tf_keras`, `quantize_aware`, `calibrate`, training,
`int8_tflite`; quantization after training: `equalize`, `float_tflite`, `observed_ranges`, `quantized`, or
`post_training_int8` in one call.
A library that knows no task and never imports `training`. Names are imported when they are first used, so that
`import compression` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "load_model": "slimcam.compression.model_files",
    "compress": "slimcam.compression.compressed",
    "Compressed": "slimcam.compression.compressed",
    "normalize": "slimcam.compression.normal_form.normalize",
    "trace": "slimcam.compression.pruning.graph",
    "importance": "slimcam.compression.pruning.importance",
    "plan": "slimcam.compression.pruning.selection",
    "PruningPlan": "slimcam.compression.pruning.plan",
    "PruningRatioConfig": "slimcam.compression.pruning.config",
    "Samples": "slimcam.compression.pruning.samples",
    "prune": "slimcam.compression.pruning.pruned",
    "Pruned": "slimcam.compression.pruning.pruned",
    "sensitivity": "slimcam.compression.pruning.sensitivity",
    "cut": "slimcam.compression.pruning.surgery",
    "mask": "slimcam.compression.pruning.surgery",
    "cost": "slimcam.compression.pruning.cost",
    "rescale_kernels": "slimcam.compression.pruning.rescale",
    "recalibrate_batch_norm": "slimcam.compression.pruning.batch_norm",
    "register_layer": "slimcam.compression.layers.table",
    "LayerSpec": "slimcam.compression.layers.spec",
    "Kernel": "slimcam.compression.layers.weights",
    "no_macs": "slimcam.compression.layers.spec",
    "equalize": "slimcam.compression.quantization.equalize",
    "to_tf_keras": "slimcam.compression.quantization.keras2",
    "quantize_aware": "slimcam.compression.quantization.qat",
    "calibrate": "slimcam.compression.quantization.qat",
    "layer_sqnr": "slimcam.compression.quantization.errors",
    "layer_errors": "slimcam.compression.quantization.errors",
    "float_tflite": "slimcam.compression.export.tflite",
    "int8_tflite": "slimcam.compression.export.tflite",
    "Scheme": "slimcam.compression.quantization.schemes",
    "quantized": "slimcam.compression.quantization.post_training",
    "post_training_int8": "slimcam.compression.quantization.post_training",
    "observed_ranges": "slimcam.compression.quantization.post_training",
    "delegation_problems": "slimcam.compression.export.delegation",
    "preflight": "slimcam.compression.check",
    "Preflight": "slimcam.compression.check",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'compression' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
