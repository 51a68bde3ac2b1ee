"""The task of telling people apart: faces in, embeddings out, evaluated by pairs of faces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.common.files import save_arrays
from slimcam.deploy.common.result_key import key_material
from slimcam.deploy.inference.bundle import InputSpec, load_bundle
from slimcam.deploy.inference.pixels import PixelFormat, input_spec, normalized
from slimcam.training.data.images import IMAGE_SIZE, Selection
from slimcam.training.data.recognition.batches import Batch, Batches, plain_batches, resize, sample_batches
from slimcam.training.data.recognition.faces import UNLABELED, FaceData, FaceSet, Verification
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.data.recognition.synthetic import draw_face
from slimcam.training.data.recognition.teacher_targets import TargetSource
from slimcam.training.data.sources import fingerprint, load
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import EVENTS, MODEL, load_keras
from slimcam.training.fit.fit import Loss, Objective, fit
from slimcam.training.tasks.backbone import import_builder, initial_weights, pixels_of
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition import verification
from slimcam.training.tasks.recognition.centers import sampled_centers
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.evaluation import VerificationResults, embed, evaluation
from slimcam.training.tasks.recognition.model import (
    COSINES,
    EMBEDDING,
    FEATURES,
    ModelConfig,
    build,
    with_classifier,
    with_features,
)
from slimcam.training.tasks.recognition.teacher import model_targets, teacher_targets
from slimcam.training.tasks.task import Evaluation, Float, Pixels, Size, Task, Teacher, TrainingSpec, input_size

CENTERS = "centres.npz"


class Recognition(Task):
    name = "recognition"
    measure = "Accuracy"
    purpose = (
        "A face recognizer: an aligned 112x112 RGB face in, an embedding out; two faces are compared by the cosine of "
        "their embeddings."
    )
    limits = (
        "Faces must be aligned as in training: five landmarks onto the ArcFace template.",
        "A face recognizer errs, and errs unevenly over groups of people when its training data do; measure it on "
        "the people it will meet, choose the threshold for the harm of a false match, and ask those people first.",
        "Whoever can print a photograph can fool it: there is no liveness test.",
    )

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        # Every stage that reads a model asks for its task first.
        model = getattr(job.config, "model", None)
        if isinstance(model, ModelConfig):
            import_builder(model)

    @cached_property
    def data(self) -> FaceData:
        return load(self.job.config.data, self.job.cache)

    def describe(self) -> dict[str, Any]:
        data = self.data
        summary = (
            f"{_people(data.train)} to train on; {_people(data.test, 'other ')}, in {len(data.pairs):,} verification "
            "pairs, to evaluate on"
        )
        return {"kind": self.job.config.data.kind, "summary": summary, "notes": list(data.notes)}

    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        return sample_batches(self.data.train.images, count, self.input(size), batch_size)

    def labeled(self, count: int, batch_size: int) -> tuple[Callable[[], Iterator[tuple[Float, Any]]], Loss]:
        from slimcam.training.tasks.recognition.losses import embedding_loss

        loss, fit_config = self.job.config.train.loss, self.job.config.train.fit
        centers = self.job.inputs["train"] / CENTERS
        kernel = np.load(centers)["kernel"] if loss.classifies and centers.is_file() else None

        def batches() -> Iterator[tuple[Float, Any]]:
            targets = self._targets(loss, Teacher.EXTERNAL)
            source = training_batches(self.job, self.data, replace(fit_config, batch_size=batch_size), targets)
            for step in range(-(-count // batch_size)):
                batch = source.batch(step, self.job.config.model.input_size)
                yield batch.images, (batch.labels, None if batch.targets is None else batch.targets.embeddings)

        return batches, embedding_loss(loss, kernel)

    def test_images(self, count: int, size: Size) -> Pixels:
        images = self.data.test.images
        chosen = np.random.default_rng(0).permutation(len(images))[:count]
        return np.stack([resize(images[int(index)], size[0]) for index in chosen])

    def golden_images(self, size: Size) -> Pixels:
        return np.stack([resize(draw_face(identity, 0), size[0]) for identity in range(2)])

    def build(self) -> Any:
        config = self.job.config.model
        if not isinstance(config, ModelConfig):
            raise ValueError(
                "the model is none of a recognizer, but the data are faces: set data=scenes, or task=detection"
            )
        return build(config)

    def input(self, size: Size) -> InputSpec:
        return input_spec(pixels_of(self.job.config.model), *size)

    def learn(self, model: Any, spec: TrainingSpec, job: Job) -> History:
        """Writes the classifier's centers of the identities, `centres.npz`, where the loss classifies."""
        loss, keras = spec.loss, spec.keras
        if loss.features_weight and keras.__name__ == "tf_keras":
            raise ValueError("loss.features_weight is for Keras 3, not for quantization-aware training")
        if loss.sample < 1 and (keras.__name__ == "tf_keras" or spec.fit.accumulate > 1):
            raise ValueError(
                "loss.sample takes other people at each step: it is for Keras 3, not for quantization-aware training, "
                "and goes without fit.accumulate"
            )
        if self.data.train.unlabeled and loss.distillation_weight <= 0:
            raise ValueError(
                f"the {self.data.train.unlabeled:,} faces of data.unlabeled have no names, so that nothing but "
                "distillation learns from them: give train.teacher.path and loss.distillation_weight, or leave them out"
            )
        if loss.classifies and len(self.data.train.identities) < 2:
            raise ValueError(
                f"{len(self.data.train.identities)} person to train on: to tell people apart takes 2 at the least, and "
                "2 others to verify; add people, or train by distillation alone (train.loss.classification=none)"
            )
        targets, sampled = self._targets(loss, spec.teacher), None
        if loss.classifies:
            centers, identities = None, len(self.data.train.identities)
            if spec.source is not None and (spec.source / CENTERS).is_file():
                centers = np.load(spec.source / CENTERS)["kernel"]
            if loss.sample < 1:
                size, seed = int(model.outputs[0].shape[-1]), self.job.config.train.seed
                sampled = sampled_centers(loss, identities, size, spec.fit.batch_size, seed, centers)
                centers, identities = None, sampled.count
            learner = with_classifier(
                model,
                identities,
                centers,
                keras=keras,
                subcenters=loss.subcenters,
                norms=loss.norms,
            )
        else:
            # The same layers in a model of its own: a compiled model would be saved with its optimizer.
            learner = keras.Model(model.inputs, model.outputs[0], name=f"{model.name}_learner")
        if loss.features_weight:
            assert targets is not None
            learner = with_features(learner, loss.features_layer, targets.channels, keras=keras)
        history = fit(
            learner,
            training_batches(self.job, self.data, spec.fit, targets),
            spec.fit,
            objective(loss),
            job.work,
            keras=keras,
            title=spec.title,
            events=job.out / EVENTS,
            validate=self.validator(),
            rates=spec.rates,
            callbacks=spec.callbacks,
            recalibrate=spec.recalibrate,
            sampled=sampled,
            begin=spec.begin,
        )
        if loss.classifies:
            kernel = learner.get_layer(COSINES).get_weights()[0] if sampled is None else sampled.kernel
            save_arrays(job.out / CENTERS, kernel=kernel)
        return history

    def validate(self, outputs: Callable[[Pixels], Float], size: Size) -> float:
        """On people held out; without any, on a part of those that the model was trained on."""
        faces = self.data.held_out[0] if self.data.held_out else _part(self.data.train)
        batches = plain_batches(faces.faces.images, size[0], 64)
        scores = verification.pair_scores(np.concatenate([outputs(batch) for batch in batches]), faces.pairs)
        return verification.fold_accuracy(scores, faces.pairs).mean

    def origin(self) -> dict[str, Any]:
        config = self.job.config
        sections = {name: getattr(config, name) for name in ("train", "prune", "quantize")}
        taught = [
            name
            for name, section in sections.items()
            if section.loss.distillation_weight > 0 and getattr(section, "teacher", None) != Teacher.DENSE
        ]
        teachers = [Path(str(model.path)).name for model in config.train.teacher.models]
        return {
            "backbone": config.model.backbone.replace("\\", "/").rsplit("/", 1)[-1],
            "initial_weights": initial_weights(config.model),
            "data": f"{_people(self.data.train)} (data: {config.data.kind})",
            "teacher": ", ".join(teachers) if taught and teachers else None,
            "taught_stages": taught,
        }

    def validator(self) -> Callable[[Any], float] | None:
        if not self.data.held_out:
            return None
        return held_out_accuracy(self.data.held_out[0], pixels_of(self.job.config.model))

    def evaluate(self, folders: Mapping[str, Path], *, test_alone: bool = False) -> Evaluation:
        config = self.job.config.evaluate
        if not all(far < 1 for far in config.rates):
            raise ValueError(f"evaluate.rates are false-accept rates, below 1; got {list(config.rates)}")
        held_out = () if test_alone else self.data.held_out
        sets = [Verification(self.data.test, self.data.pairs), *held_out]
        results = [
            VerificationResults(
                {name: embed(folder, faces.faces.images, config.threads) for name, folder in folders.items()},
                faces,
                config.rates,
            )
            for faces in sets
        ]
        validated = load_bundle(list(folders.values())[-1]).provenance["validated_stages"]
        return evaluation(results, validated)

    def _targets(self, loss: LossConfig, teacher: str) -> TargetSource | None:
        """The targets of the training images, or `None` if the loss has no distillation."""
        if loss.distillation_weight <= 0:
            return None
        if teacher == Teacher.EXTERNAL:
            return external_targets(self.job, self.data)
        path = self.job.inputs["train"] / MODEL
        views = self.job.config.train.teacher.views
        source = f"{views} {views_source(self.job)}"
        digest = hashlib.sha256(path.read_bytes() + source.encode()).hexdigest()[:16]
        file = self.job.cache / f"targets-{digest}.npy"
        dense = load_keras(path)
        return model_targets(dense, self.input(input_size(dense)), views, self.data.train.images, file)


def objective(loss: LossConfig) -> Objective:
    """What a recognizer learns by, for the outputs that its loss asks for."""
    # Imported late: `keras` must find its backend set, and a process that only plans never needs it.
    from slimcam.training.tasks.recognition import losses

    parts: dict[str, Any] = {}
    weights: dict[str, float] = {}
    if loss.classifies:
        parts[COSINES], weights[COSINES] = losses.classification(loss), loss.classification_weight
    if loss.distillation_weight > 0:
        parts[EMBEDDING], weights[EMBEDDING] = losses.distillation, loss.distillation_weight
    if loss.features_weight > 0:
        parts[FEATURES], weights[FEATURES] = losses.features, loss.features_weight

    def truth(batch: Batch) -> Any:
        found: dict[str, Any] = {COSINES: batch.labels}
        if batch.targets is not None:
            found |= {EMBEDDING: batch.targets.embeddings, FEATURES: batch.targets.features}
        return {name: found[name] for name in parts} if set(parts) != {EMBEDDING} else found[EMBEDDING]

    return Objective(parts, weights, truth)


def held_out_accuracy(
    held_out: Verification, pixels: PixelFormat = PixelFormat.MINUS_ONE_ONE
) -> Callable[[Any], float]:
    """A function from a model, with or without a classifier, to its accuracy on people held out."""

    def accuracy(model: Any) -> float:
        read = input_spec(pixels, *input_size(model))
        parts = []
        for batch in plain_batches(held_out.faces.images, read.height, 64):
            output = model.predict_on_batch(normalized(batch, read))
            parts.append(np.asarray(output[EMBEDDING] if isinstance(output, dict) else output, dtype=np.float32))
        scores = verification.pair_scores(np.concatenate(parts), held_out.pairs)
        return verification.fold_accuracy(scores, held_out.pairs).mean

    return accuracy


def training_batches(job: Job, data: FaceData, fit_config: FitConfig, targets: TargetSource | None) -> Batches:
    """The batches of a fit, augmented as the train section says."""
    train = job.config.train
    return Batches(
        data.train,
        fit_config.batch_size,
        train.augment,
        train.seed,
        targets,
        train.workers,
        balance=train.balance,
        input=input_spec(pixels_of(job.config.model), IMAGE_SIZE, IMAGE_SIZE),
    )


def external_targets(job: Job, data: FaceData) -> TargetSource:
    """The targets that the configured teacher gives for the training images.

    Raises:
        ValueError: none is configured.
    """
    config = job.config
    if config.train.teacher.path is None:
        raise ValueError("teacher is external, but train.teacher.path names none: give it, or take teacher=dense")
    teacher, size = config.train.teacher, config.model.embedding_size
    return teacher_targets(teacher, data.train.images, views_source(job), job.cache, size)


def views_source(job: Job) -> str:
    """What the images that a teacher sees are made of: the data, and for augmented views how they are sampled."""
    train = job.config.train
    views = [key_material(train.augment), train.seed, train.balance]
    return fingerprint(job.config.data) + (json.dumps(views, sort_keys=True) if train.teacher.views else "")


def _part(faces: FaceSet, images: int = 1000) -> Verification:
    """Pairs of some of the people that are trained on: what they say of a change, not of the accuracy, holds."""
    named = np.flatnonzero(faces.labels != UNLABELED)
    chosen = named[np.argsort(faces.labels[named], kind="stable")][:images]
    part = FaceSet(Selection(faces.images, chosen), faces.labels[chosen], faces.identities)
    return Verification(part, sample_pairs(part.labels, 2 * images))


def _people(faces: FaceSet, kind: str = "") -> str:
    if faces.unlabeled == len(faces):
        return f"{len(faces):,} images without names"
    unlabeled = f" and {faces.unlabeled:,} unlabeled ones" if faces.unlabeled else ""
    return f"{len(faces) - faces.unlabeled:,} images of {len(faces.identities):,} {kind}people{unlabeled}"
