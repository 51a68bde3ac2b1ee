"""The prune stage: decide which channels go, cut them out, and let the smaller model recover."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from compression.budget import plan
from compression.cost import cost
from compression.graph import trace
from compression.importance import importance
from compression.recipe import COST, PLAN
from compression.recovery import load_keras, recover
from compression.surgery import cut
from training.data.batches import sample_batches
from training.data.faces import Images
from training.data.load import load
from training.files import save_arrays, save_keras, write_text
from training.job import Job
from training.train import CENTRES, MODEL, write_history


def run(job: Job) -> None:
    """Writes `model.keras`, `plan.json`, `cost.json` (before and after), `history.jsonl`."""
    import keras

    config = job.config.prune
    keras.utils.set_random_seed(job.config.train.seed)
    data = load(job.config.data, job.cache)
    dense = load_keras(job.inputs["train"] / MODEL)
    graph = trace(dense)
    chosen = plan(graph, importance(dense, graph, config.criterion), config)
    print(chosen, flush=True)
    chosen.save(job.out / PLAN)
    model = cut(dense, chosen)
    costs = {"dense": asdict(cost(dense)), "pruned": asdict(cost(model))}
    write_text(job.out / COST, json.dumps(costs, indent=2))
    print("; ".join(f"{name}: {c['parameters']:,} parameters, {c['macs']:,} MACs" for name, c in costs.items()))
    reestimate_batch_norm(model, data.train.images, config.bn_images)
    centres, history = recover(job, model, data, config, "train", keras=keras, title="recovery")
    reestimate_batch_norm(model, data.train.images, config.bn_images)
    save_keras(model, job.out / MODEL)
    if centres is not None:
        save_arrays(job.out / CENTRES, kernel=centres)
    write_history(job.out, history)


def reestimate_batch_norm(model: Any, images: Images, count: int, *, batch_size: int = 64, seed: int = 0) -> None:
    """Takes the moving statistics of every BatchNormalization anew: their mean over batches of unchanged images.

    Li et al. 2020, "EagleEye", section 3.3: statistics of the unpruned model misjudge the pruned one.

    Args:
        model: Keras 3 model on normalised images; changed in place.
        count: images taken, at random; 0 leaves the model as it is.
    """
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    size = int(model.inputs[0].shape[1])
    momenta = [layer.momentum for layer in layers]
    try:
        for number, batch in enumerate(sample_batches(images, count, size, batch_size, seed)):
            for layer in layers:
                # moving = moving * n/(n+1) + batch * 1/(n+1) is the mean over the batches so far.
                layer.momentum = number / (number + 1)
            model(batch, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
