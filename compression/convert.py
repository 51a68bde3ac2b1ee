"""The convert stage: the dense, the pruned and the quantised model as TFLite files in bundles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.card import model_card
from compression.quantize import QUANTIZED
from compression.recovery import load_keras
from deploy.bundle import InputSpec, write_bundle
from deploy.runtime import Embedder, Recognizer, l2_normalise
from training.data.batches import normalize, plain_batches, resize
from training.data.faces import FaceData, Selection
from training.data.load import load
from training.data.synthetic import draw_face
from training.files import write_text
from training.job import Job
from training.models import PIXEL_MEAN, PIXEL_SCALE
from training.train import MODEL

FIDELITY = "fidelity.json"


def run(job: Job) -> None:
    """Writes a bundle for each of `VARIANTS`, and `fidelity.json`: how well the int8 file follows its model."""
    from compression import schemes, tflite

    config = job.config
    data = load(config.data, job.cache)
    dense = load_keras(job.inputs["train"] / MODEL)
    quantized = schemes.load(job.inputs["quantize"] / QUANTIZED)
    files = {
        "dense": tflite.float_tflite(dense),
        "pruned": tflite.float_tflite(load_keras(job.inputs["prune"] / MODEL)),
        "quantized": tflite.int8_tflite(quantized),
    }
    size, embedding_size = int(dense.inputs[0].shape[1]), int(dense.outputs[0].shape[-1])
    spec = InputSpec(size, size, PIXEL_MEAN, PIXEL_SCALE)
    # Drawn faces: a bundle holds nobody's photograph, and any machine can draw them again.
    golden = np.stack([resize(draw_face(identity, 0), size) for identity in range(2)])
    origin = provenance(job, data)
    for name, content in files.items():
        write_bundle(
            job.out / name,
            name=f"{dense.name}-{name}",
            model=content,
            input=spec,
            embedding_size=embedding_size,
            golden_input=golden,
            golden_output=Embedder(content, spec, embedding_size).embed(golden),
            provenance=origin,
            license=config.convert.license,
            card=model_card(f"{dense.name}-{name}", config.convert.license, origin),
        )
        print(f"{name}: {len(content) / 1e6:.2f} MB", flush=True)
    cosines = fidelity(Recognizer(job.out / "quantized"), quantized, data, size, config.convert.fidelity_images)
    result = {"images": len(cosines), "mean": float(cosines.mean()), "min": float(cosines.min())}
    write_text(job.out / FIDELITY, json.dumps(result))
    print(f"int8 file against its model, cosine over {len(cosines)} faces: mean {cosines.mean():.4f}", flush=True)


def fidelity(
    recognizer: Recognizer, model: Any, data: FaceData, size: int, count: int, seed: int = 0
) -> NDArray[np.float32]:
    """Cosine between the embeddings of a file and of the Keras model that it was made of, `(count,)`."""
    chosen = np.random.default_rng(seed).permutation(len(data.test))[:count]
    images = np.concatenate(list(plain_batches(Selection(data.test.images, chosen), size, 32)))
    expected = l2_normalise(np.asarray(model.predict(normalize(images), verbose=0), dtype=np.float32))
    cosines: NDArray[np.float32] = np.sum(recognizer.embed(images) * expected, axis=1)
    return cosines


def provenance(job: Job, data: FaceData) -> dict[str, Any]:
    """What a model was made of, for its bundle and card."""
    config = job.config
    teacher = config.train.teacher.path
    return {
        "backbone": config.model.backbone,
        "initial_weights": "random" if config.model.weights is None else str(config.model.weights).rsplit("/", 1)[-1],
        "teacher": None if teacher is None else str(teacher).rsplit("/", 1)[-1],
        "data": config.data.kind,
        "training_images": len(data.train),
        "training_identities": len(data.train.identities),
        "pruned_ratio": config.prune.ratio,
        "pruned_scope": config.prune.scope,
        "epochs": {
            "dense": config.train.fit.epochs,
            "recovery": config.prune.fit.epochs,
            "quantisation-aware": config.quantize.fit.epochs,
        },
    }
