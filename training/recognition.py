"""The task of telling people apart: faces in, embeddings out, judged by pairs of faces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.common.files import save_arrays
from deploy.inference.bundle import load_bundle
from deploy.inference.model import Recognizer
from training import verification
from training.data.images import IMAGE_SIZE, Images, normalize
from training.data.recognition.batches import Batch, Batches, plain_batches, resize, sample_batches
from training.data.recognition.faces import FaceData, FaceSet, Verification
from training.data.recognition.synthetic import draw_face
from training.data.recognition.teacher_targets import Targets
from training.data.sources import fingerprint, load
from training.fit.config import FitConfig
from training.fit.files import EVENTS, MODEL, load_keras
from training.fit.fit import History, Objective, fit
from training.fit.progress import Progress
from training.identification import Identification, identification
from training.models import (
    COSINES,
    EMBEDDING,
    FEATURES,
    ModelConfig,
    build,
    initial_weights,
    with_classifier,
    with_features,
)
from training.recipe import LossConfig
from training.tasks.bootstrap import paired_bootstrap
from training.tasks.job import Job
from training.tasks.task import Curves, Float, Judgement, Lessons, Listing, Pixels, Size, Task
from training.teacher import model_targets, teacher_targets

CENTRES = "centres.npz"

# So many photos of each person are enrolled when identification is measured.
PHOTOS = (1, 3)


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

    @cached_property
    def data(self) -> FaceData:
        return load(self.job.config.data, self.job.cache)

    def describe(self) -> dict[str, Any]:
        data = self.data
        summary = (
            f"{_people(data.train)} to train on; {_people(data.test, 'other ')}, in {len(data.pairs):,} verification "
            "pairs, to judge by"
        )
        return {"kind": self.job.config.data.kind, "summary": summary, "notes": list(data.notes)}

    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        return sample_batches(self.data.train.images, count, size[0], batch_size)

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

    def learn(self, model: Any, lessons: Lessons, place: Job) -> History:
        """Writes the classifier's centres of the identities, `centres.npz`, where the loss classifies."""
        loss, keras = lessons.loss, lessons.keras
        if loss.features_weight and keras.__name__ == "tf_keras":
            raise ValueError("loss.features_weight is for Keras 3, not for quantisation-aware training")
        if self.data.train.unlabeled and loss.distillation_weight <= 0:
            raise ValueError(
                f"the {self.data.train.unlabeled:,} faces of data.unlabeled have no names, so that nothing but "
                "distillation learns from them: give train.teacher.path and loss.distillation_weight, or leave them out"
            )
        targets = self._targets(loss, lessons.teacher)
        if loss.classifies:
            centres = None
            if lessons.source is not None and (lessons.source / CENTRES).is_file():
                centres = np.load(lessons.source / CENTRES)["kernel"]
            learner = with_classifier(model, len(self.data.train.identities), centres, keras=keras)
        else:
            # The same layers in a model of its own: a compiled model would be saved with its optimizer.
            learner = keras.Model(model.inputs, model.outputs[0], name=f"{model.name}_learner")
        if loss.features_weight:
            assert targets is not None
            learner = with_features(learner, loss.features_layer, targets.channels, keras=keras)
        history = fit(
            learner,
            training_batches(self.job, self.data, lessons.fit, targets),
            lessons.fit,
            objective(loss),
            place.work,
            keras=keras,
            title=lessons.title,
            events=place.out / EVENTS,
            judge=held_out_accuracy(self.data.held_out[0]) if self.data.held_out else None,
        )
        if loss.classifies:
            save_arrays(place.out / CENTRES, kernel=learner.get_layer(COSINES).get_weights()[0])
        return history

    def origin(self) -> dict[str, Any]:
        config = self.job.config
        sections = {name: getattr(config, name) for name in ("train", "prune", "quantize")}
        taught = [
            name
            for name, section in sections.items()
            if section.loss.distillation_weight > 0 and getattr(section, "teacher", None) != "dense"
        ]
        teachers = [Path(str(model.path)).name for model in config.train.teacher.models]
        return {
            "backbone": config.model.backbone.replace("\\", "/").rsplit("/", 1)[-1],
            "initial_weights": initial_weights(config.model),
            "data": f"{_people(self.data.train)} (data: {config.data.kind})",
            "teacher": ", ".join(teachers) if taught and teachers else None,
            "taught_stages": taught,
        }

    def judge(self, folders: Mapping[str, Path]) -> Judgement:
        config = self.job.config.evaluate
        if not all(far < 1 for far in config.rates):
            raise ValueError(f"evaluate.rates are false-accept rates, below 1; got {list(config.rates)}")
        sets = [Verification(self.data.test, self.data.pairs), *self.data.held_out]
        judged = [
            Judged(
                {name: embed(folder, faces.faces.images, config.threads) for name, folder in folders.items()},
                faces,
                config.rates,
            )
            for faces in sets
        ]
        validated = load_bundle(list(folders.values())[-1]).provenance["validated_stages"]
        return judgement(judged, validated)

    def _targets(self, loss: LossConfig, teacher: str) -> Targets | None:
        """What a teacher says of the training images, or `None` if the loss distils nothing."""
        if loss.distillation_weight <= 0:
            return None
        if teacher == "external":
            return external_targets(self.job, self.data)
        path = self.job.inputs["train"] / MODEL
        views = self.job.config.train.teacher.views
        source = f"{views} {views_source(self.job)}"
        digest = hashlib.sha256(path.read_bytes() + source.encode()).hexdigest()[:16]
        file = self.job.cache / f"targets-{digest}.npy"
        return model_targets(load_keras(path), views, self.data.train.images, file)


def objective(loss: LossConfig) -> Objective:
    """What a recognizer learns by, for the outputs that its loss asks for."""
    # Imported late: `keras` must find its backend set, and a process that only plans never needs it.
    from training import losses

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
        if batch.lesson is not None:
            found |= {EMBEDDING: batch.lesson.embeddings, FEATURES: batch.lesson.features}
        return {name: found[name] for name in parts} if set(parts) != {EMBEDDING} else found[EMBEDDING]

    return Objective(parts, weights, truth)


def held_out_accuracy(held_out: Verification) -> Callable[[Any], float]:
    """A function from a model, with or without a classifier, to its accuracy on people held out."""

    def accuracy(model: Any) -> float:
        size = int(model.inputs[0].shape[1])
        parts = []
        for batch in plain_batches(held_out.faces.images, size, 64):
            output = model.predict_on_batch(normalize(batch))
            parts.append(np.asarray(output[EMBEDDING] if isinstance(output, dict) else output, dtype=np.float32))
        scores = verification.pair_scores(np.concatenate(parts), held_out.pairs)
        return verification.fold_accuracy(scores, held_out.pairs).mean

    return accuracy


def training_batches(job: Job, data: FaceData, fit_config: FitConfig, targets: Targets | None) -> Batches:
    """The batches of a fit, augmented as the train section says."""
    train = job.config.train
    return Batches(
        data.train, fit_config.batch_size, train.augment, train.seed, targets, train.workers, balance=train.balance
    )


def external_targets(job: Job, data: FaceData) -> Targets:
    """What the configured teacher says of the training images.

    Raises:
        ValueError: none is configured.
    """
    config = job.config
    if config.train.teacher.path is None:
        raise ValueError("teacher is external, but train.teacher.path names none: give it, or take teacher=dense")
    teacher, size = config.train.teacher, config.model.embedding_size
    return teacher_targets(teacher, data.train.images, views_source(job), job.cache, size)


def views_source(job: Job) -> str:
    """What the images that a teacher sees are made of: the data, and for augmented views how they are drawn."""
    train = job.config.train
    drawn = (
        json.dumps([asdict(train.augment), train.seed, train.balance], sort_keys=True) if train.teacher.views else ""
    )
    return fingerprint(job.config.data) + drawn


class Judged:
    """Some models, judged by the same faces.

    Attributes:
        accuracies, rates: by model.
        identified: by model, with each of `PHOTOS` enrolled, where the faces are of enough people.
        changes: of the accuracy against the dense model's, by model.
    """

    def __init__(self, embeddings: Mapping[str, Float], faces: Verification, fars: Sequence[float]) -> None:
        self.faces = faces
        self.accuracies: dict[str, verification.Accuracy] = {}
        self.rates: dict[str, dict[str, Any]] = {}
        self.identified: dict[str, list[Identification]] = {}
        for name, found in embeddings.items():
            scores = verification.pair_scores(found, faces.pairs)
            self.accuracies[name] = verification.fold_accuracy(scores, faces.pairs)
            self.rates[name] = rates(found, faces, fars)
            results = (identification(found, faces.faces.labels, photos, fars) for photos in PHOTOS)
            self.identified[name] = [result for result in results if result is not None]
        dense = self.accuracies["dense"].correct
        self.changes = {
            name: asdict(paired_bootstrap(accuracy.correct, dense))
            for name, accuracy in self.accuracies.items()
            if name != "dense"
        }

    def fact(self, name: str, faces: str) -> str:
        change = self.changes[name]
        return (
            f"accuracy {100 * self.accuracies[name].mean:.2f} % on {faces} (dense float model "
            f"{100 * self.accuracies['dense'].mean:.2f} %; change {100 * change['difference']:+.2f} points, "
            f"95 % interval {100 * change['low']:+.2f} to {100 * change['high']:+.2f})"
        )

    def listing(self, title: str, notes: list[str]) -> Listing:
        fars = sorted({far for found in self.rates.values() for far in found["tar"]}, key=float, reverse=True)
        columns = [("Accuracy", "percent"), ("± over folds", "percent"), ("Change, points (95 % interval)", "interval")]
        columns += [(f"TAR at FAR {far}", "percent") for far in fars]
        rows = {
            name: [found.mean, found.deviation, self.changes.get(name), *map(self.rates[name]["tar"].get, fars)]
            for name, found in self.accuracies.items()
        }
        people = len(np.unique(self.faces.faces.labels))
        counts = (
            f"{len(self.faces.pairs):,} verification pairs of {people:,} people, and "
            f"{next(iter(self.rates.values()))['impostor_pairs']:,} impostor pairs, which are all pairs of images of "
            "different people."
        )
        return Listing(title, columns, rows, [counts, *notes])

    def identification(self, title: str) -> Listing | None:
        """Rates of identification, a row for each model; `None` where the people are too few."""
        columns: list[tuple[str, str]] = []
        rows: dict[str, list[Any]] = {name: [] for name in self.identified}
        notes = []
        for trials in zip(*self.identified.values(), strict=True):
            first = trials[0]
            enrolled = f"{first.photos} photo{'s' * (first.photos > 1)} enrolled"
            columns += [
                (f"{enrolled}: rank 1", "percent"),
                *((f"TPIR at FPIR {rate}", "percent") for rate in first.tpir),
            ]
            for cells, trial in zip(rows.values(), trials, strict=True):
                cells += [trial.rank_one, *trial.tpir.values()]
            notes.append(
                f"With {first.photos} enrolled of {first.people:g} people: {first.mated:,} probes of theirs, "
                f"{first.non_mated:,} of other people."
            )
        return Listing(title, columns, rows, notes) if columns else None


def judgement(judged: Sequence[Judged], validated: Sequence[str]) -> Judgement:
    """What the report, the card and the gates need of it.

    Args:
        judged: the models on the test, whose pairs the gates judge by, and on people held out.
        validated: the stages in which weights were chosen by the people held out.
    """
    test, *others = judged
    small = list(test.rates)[-1]
    tar = test.rates[small]["tar"]
    facts = [
        test.fact(small, f"{len(test.faces.pairs)} pairs of people not trained on"),
        *(
            f"true accept rate {100 * rate:.2f} % at a false accept rate of {far}, over "
            f"{test.rates[small]['impostor_pairs']:,} impostor pairs"
            for far, rate in tar.items()
        ),
    ]
    tables = [test.listing("Verification", ["The gates judge by these pairs."])]
    for number, other in enumerate(others):
        # By the first of them, and not by the others.
        chosen = ", by whom weights were chosen in training" if validated and number == 0 else ""
        people = len(np.unique(other.faces.faces.labels))
        origin, source = "held out of the folders trained on", other.faces.source
        notes = ["These people belong to the folders trained on, but nothing was trained on their faces."]
        if source is not None:
            origin = f"of {source}, a source that nothing was trained on"
            notes = [f"Nothing was trained on anything of this source, {source}."]
        facts.append(other.fact(small, f"{len(other.faces.pairs)} pairs of {people} people {origin}{chosen}"))
        if chosen:
            notes.append(
                f"By them the best weights were chosen in the stages {', '.join(validated)}: their figures flatter the "
                "models a little, those of the test do not."
            )
        title = "Verification of people held out" if source is None else f"Verification on {source}"
        tables.append(other.listing(title, notes))
    for one, name in zip(
        judged, ["the test", *(other.faces.source or "people held out" for other in others)], strict=True
    ):
        found = one.identification(f"Identification, {name}")
        if found is not None:
            tables.append(found)
    return Judgement(
        accuracies={name: found.mean for name, found in test.accuracies.items()},
        changes=test.changes,
        thresholds=test.rates[small]["thresholds"],
        figures={"tar": tar},
        facts=facts,
        tables=tables,
        curves=_roc(test.rates),
    )


def _roc(found: Mapping[str, Mapping[str, Any]]) -> Curves:
    rates = "; ".join(
        f"{name} " + ", ".join(f"{100 * rate:.2f} % at {far}" for far, rate in model["tar"].items())
        for name, model in found.items()
        if model["tar"]
    )
    return Curves(
        title="How well faces are told apart",
        caption="Share of genuine pairs accepted, against the share of impostor pairs accepted by mistake. The curves "
        "end at the left where fewer than ten impostor pairs are left to count.",
        alt=f"ROC curves. True accept rates at false accept rates: {rates or 'too few impostor pairs'}",
        x="false accept rate",
        y="true accept rate",
        x_is_share=True,
        lowest=verification.SUPPORT / min(model["impostor_pairs"] for model in found.values()),
        lines={name: {**model["roc"], "label": _label(model["tar"])} for name, model in found.items()},
    )


def _label(tar: Mapping[str, float]) -> str:
    if not tar:
        return ""
    far = "0.01" if "0.01" in tar else next(iter(tar))
    return f"{100 * tar[far]:.1f} % at {100 * float(far):g} %"


def embed(folder: Path, images: Images, threads: int) -> NDArray[np.float32]:
    """Embeddings of all images by the model of a bundle, `(N, E)`."""
    recognizer = Recognizer(folder, threads)
    progress = Progress(len(images), f"evaluating {folder.name}", unit="images")
    parts = []
    for batch in plain_batches(images, IMAGE_SIZE, 64):
        parts.append(recognizer.embed(batch))
        progress.advance(len(batch))
    progress.close()
    return np.concatenate(parts)


def rates(embeddings: NDArray[np.float32], faces: Verification, fars: Sequence[float]) -> dict[str, Any]:
    """True-accept rates, thresholds and ROC of a model at false-accept rates.

    Impostors are all pairs of images of different people, genuine pairs those of the protocol.
    """
    pairs = verification.pair_scores(embeddings, faces.pairs)
    genuine = pairs[faces.pairs.same]
    impostors = verification.impostor_scores(embeddings, faces.faces.labels)
    thresholds = {str(far): verification.threshold_at_far(impostors, far) for far in fars}
    accepted = {str(far): verification.tar_at_far(genuine, impostors, far) for far in fars}
    false, true = verification.roc(genuine, impostors)
    return {
        "impostor_pairs": len(impostors),
        "thresholds": {far: value for far, value in thresholds.items() if value is not None},
        "tar": {far: value for far, value in accepted.items() if value is not None},
        "roc": {"x": false.tolist(), "y": true.tolist()},
    }


def _people(faces: FaceSet, kind: str = "") -> str:
    unlabeled = f" and {faces.unlabeled:,} unlabeled ones" if faces.unlabeled else ""
    return f"{len(faces) - faces.unlabeled:,} images of {len(faces.identities):,} {kind}people{unlabeled}"
