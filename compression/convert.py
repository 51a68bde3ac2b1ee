"""The convert stage: the dense, the pruned and the quantised model as TFLite files in bundles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.card import model_card
from compression.delegation import check_requantisation
from compression.quantize import QUANTIZED
from compression.recipe import FIDELITY, PLAN
from compression.recovery import load_keras
from deploy.bundle import InputSpec, write_bundle
from deploy.runtime import Embedder, Recognizer, l2_normalise
from training.data.batches import normalize, resize
from training.data.faces import FaceData, Images
from training.data.load import load
from training.data.synthetic import draw_face
from training.files import write_text
from training.job import Job
from training.models import PIXEL_MEAN, PIXEL_SCALE, ModelConfig
from training.train import MODEL


def run(job: Job) -> None:
    """Writes a bundle for each of `VARIANTS`, and `fidelity.json`: how well the int8 file follows its model.

    Raises:
        ValueError: the int8 model has operators that XNNPACK would not run.
    """
    from compression import schemes, tflite

    config = job.config
    data = load(config.data, job.cache)
    dense = load_keras(job.inputs["train"] / MODEL)
    quantized = schemes.load(job.inputs["quantize"] / QUANTIZED)
    size, embedding_size = int(dense.inputs[0].shape[1]), int(dense.outputs[0].shape[-1])
    faces = sample(data.test.images, config.convert.fidelity_images, size)
    # Before the conversion: it may widen ranges in the model itself, and that change is part of what is judged.
    expected = quantized.predict(normalize(faces), verbose=0)
    files = {
        "dense": tflite.float_tflite(dense),
        "pruned": tflite.float_tflite(load_keras(job.inputs["prune"] / MODEL)),
        "quantized": tflite.int8_tflite(quantized),
    }
    if problems := check_requantisation(files["quantized"]):
        raise ValueError(f"XNNPACK would not run the int8 model: {'; '.join(map(str, problems))}")
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
    cosines = np.sum(Recognizer(job.out / "quantized").embed(faces) * l2_normalise(np.asarray(expected)), axis=1)
    result = {"images": len(cosines), "mean": float(cosines.mean()), "min": float(cosines.min())}
    write_text(job.out / FIDELITY, json.dumps(result))
    print(f"int8 file against its model, cosine over {len(cosines)} faces: mean {cosines.mean():.4f}", flush=True)


def sample(images: Images, count: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Some images, drawn at random and resized, `(count, size, size, 3)`."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return np.stack([resize(images[int(index)], size) for index in chosen])


def provenance(job: Job, data: FaceData) -> dict[str, Any]:
    """What a model was made of, for its bundle and card."""
    config = job.config
    teachers = {
        "train": config.train.loss.distillation_weight > 0,
        "prune": config.prune.loss.distillation_weight > 0 and config.prune.teacher == "external",
        "quantize": config.quantize.loss.distillation_weight > 0 and config.quantize.teacher == "external",
    }
    fits = {"train": config.train.fit, "prune": config.prune.fit, "quantize": config.quantize.fit}
    plan = json.loads((job.inputs["prune"] / PLAN).read_text())
    total = sum(plan["sizes"].values())
    return {
        "backbone": _file_name(config.model.backbone),
        "initial_weights": _initial_weights(config.model),
        "teacher": _file_name(config.train.teacher.path) if any(teachers.values()) else None,
        "taught_stages": [stage for stage, taught in teachers.items() if taught],
        "data": config.data.kind,
        "training_images": len(data.train),
        "training_identities": len(data.train.identities),
        "pruned_share": 1 - sum(len(kept) for kept in plan["kept"].values()) / total,
        "pruned_channels": total,
        "pruned_scope": config.prune.scope,
        "pruned_steps": config.prune.steps,
        "pruned_weights": config.prune.weights,
        "epochs": {
            "dense": config.train.fit.epochs,
            "recovery": config.prune.fit.epochs,
            "quantisation-aware": config.quantize.fit.epochs,
        },
        "validated_stages": [stage for stage, fit in fits.items() if fit.validations],
    }


def _initial_weights(model: ModelConfig) -> str:
    if model.weights is not None:
        return _file_name(model.weights)
    return f"those of {_file_name(model.backbone)}" if model.backbone.endswith((".keras", ".h5")) else "random"


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]
