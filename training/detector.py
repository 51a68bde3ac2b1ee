"""The task of finding faces: scenes in, a row for each cell out (see `training.detection`), judged by faces found."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deploy.vision.detector import open_detector
from deploy.vision.detector_output import CHANNELS, STRIDES
from training.data.detection import scenes
from training.data.detection.scenes import SceneData, Scenes
from training.data.images import ahead, normalize
from training.detection import (
    SIZES,
    Match,
    Recall,
    average_precision,
    encode,
    found_at,
    landmark_error,
    match,
    recall_at,
)
from training.fit.config import FitConfig
from training.fit.files import EVENTS, MODEL, load_keras
from training.fit.fit import History, Objective, fit
from training.fit.progress import Progress
from training.tasks.bootstrap import paired_bootstrap
from training.tasks.job import Job
from training.tasks.task import Curves, Float, Judgement, Lessons, Listing, Pixels, Size, Task

FPPI = 0.1
"""False faces an image, at which recall is compared."""


@dataclass
class DetectorConfig:
    """The network: convolutions with shortcuts in five halvings, and a head on each of the last three.

    Attributes:
        height, width: of its input, pixels.
        channels: of the feature maps at strides 2, 4, 8, 16 and 32.
        blocks: convolutions with a shortcut at strides 4, 8, 16 and 32.
    """

    height: int = 240
    width: int = 320
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 96, 128])
    blocks: list[int] = field(default_factory=lambda: [1, 2, 2, 2])

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ValueError(f"model height and width are 32 or more; got {self.height} and {self.width}")
        if len(self.channels) != 5 or min(self.channels) < 1 or len(self.blocks) != 4 or min(self.blocks) < 0:
            raise ValueError(
                f"model channels are 5 numbers from 1 on, blocks 4 from 0 on; got {list(self.channels)} and "
                f"{list(self.blocks)}"
            )


@dataclass
class DetectorLossConfig:
    """What a detector learns by.

    Attributes:
        points_weight: of size and points, beside the score's.
        distillation_weight: of the imitation of the dense model's answer to the very scene; for the stages after it.
    """

    points_weight: float = 2.0
    distillation_weight: float = 0.0

    def __post_init__(self) -> None:
        if min(self.points_weight, self.distillation_weight) < 0:
            raise ValueError(
                f"weights of losses must not be below 0; got {self.points_weight} and {self.distillation_weight}"
            )


@dataclass
class DetectorTrainConfig:
    """The train stage of a detector.

    Attributes:
        epoch_scenes: scenes that count as an epoch; they are composed anew without end.
        seed: of the initial weights.
        workers: threads that compose scenes; 0 takes one for each processor.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    loss: DetectorLossConfig = field(default_factory=DetectorLossConfig)
    epoch_scenes: int = 10_000
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.seed, self.workers) < 0 or self.epoch_scenes < 1:
            raise ValueError(
                f"seed and workers must not be below 0, epoch_scenes not below 1; got {self.seed}, {self.workers} and "
                f"{self.epoch_scenes}"
            )


class Detection(Task):
    name = "detection"
    measure = "Recall"
    purpose = (
        "A face detector: an RGB picture in; for each cell of three maps (strides 8, 16, 32) a score, a size and five "
        "points out: eyes, nose and mouth corners."
    )
    limits = (
        "Faces below 16 pixels, turned by more than 60 degrees, or mostly covered were not trained on.",
        "A detector misses faces unevenly over groups of people when its training data are uneven; try it on the "
        "people and in the light that it will meet.",
    )

    @cached_property
    def data(self) -> SceneData:
        return scenes.load(self.job.config.data, self.job.cache)

    def describe(self) -> dict[str, Any]:
        train, sets = self.data.train, self.data.test
        judged = " and ".join(f"{len(found):,} {name}" for name, found in sets.items())
        summary = (
            f"scenes composed without end of {len(train.photos):,} photos and {len(train.crops):,} crops; {judged} of "
            "other people to judge by"
        )
        return {"kind": self.job.config.data.kind, "summary": summary, "notes": list(self.data.notes)}

    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        del size  # the scenes are composed in the model's
        for start in range(0, count, batch_size):
            chosen = range(start, min(start + batch_size, count))
            yield normalize(np.stack([self.data.scenes[index].image for index in chosen]))

    def test_images(self, count: int, size: Size) -> Pixels:
        del size
        found = self.data.test["photos"]
        chosen = np.random.default_rng(0).permutation(len(found))[:count]
        return np.stack([found[int(index)].image for index in chosen])

    def golden_images(self, size: Size) -> Pixels:
        return scenes.drawn(*size, 2)

    def build(self) -> Any:
        data, model = self.job.config.data, self.job.config.model
        if not isinstance(model, DetectorConfig):
            raise ValueError("data of scenes are for a detector: set task=detection")
        if (data.height, data.width) != (model.height, model.width):
            raise ValueError(
                f"the scenes are {data.height}x{data.width}, the model takes {model.height}x{model.width}: set "
                "data.height and data.width to those of the model"
            )
        return network(model)

    def learn(self, model: Any, lessons: Lessons, place: Job) -> History:
        if lessons.fit.sizes:
            raise ValueError("fit.sizes: the scenes of a detector have one size; leave it out")
        if lessons.fit.validations:
            raise ValueError("fit.validations: no scenes are held out for them; set fit.validations=0")
        keras, loss = lessons.keras, lessons.loss
        dense = None
        if loss.distillation_weight > 0:
            if lessons.teacher != "dense":
                raise ValueError("a detector imitates nobody but its dense model: set teacher=dense")
            dense = load_keras(self.job.inputs["train"] / MODEL)
        train = self.job.config.train
        batches = SceneBatches(self.data.scenes, lessons.fit.batch_size, train.epoch_scenes, train.workers)
        # The same layers in a model of its own: a compiled model would be saved with its optimizer.
        learner = keras.Model(model.inputs, model.outputs[0], name=f"{model.name}_learner")
        return fit(
            learner,
            batches,
            lessons.fit,
            objective(loss, dense),
            place.work,
            keras=keras,
            title=lessons.title,
            events=place.out / EVENTS,
        )

    def origin(self) -> dict[str, Any]:
        sections = {name: getattr(self.job.config, name) for name in ("prune", "quantize")}
        return {
            "backbone": "slimcam detector",
            "initial_weights": "random",
            "data": f"{self.describe()['summary']} (data: {self.job.config.data.kind})",
            "teacher": None,
            "taught_stages": [name for name, section in sections.items() if section.loss.distillation_weight > 0],
        }

    def judge(self, folders: Mapping[str, Path]) -> Judgement:
        config = self.job.config.evaluate
        matches = {
            name: {model: find(folder, found, config.threads) for model, folder in folders.items()}
            for name, found in self.data.test.items()
        }
        return judgement(matches, config.rates)


def network(config: DetectorConfig) -> Any:
    """Builds the detector: `(N, height, width, 3)` normalised pixels to `(N, R, 12)`, see `training.detection`.

    A plain single-shot detector (Liu et al. 2016, "SSD") with one square "anchor" a cell; nothing in it but
    convolutions, ReLU, additions and the concatenation of the heads, all of which XNNPACK runs in int8.
    """
    import keras

    layers = keras.layers

    def convolution(x: Any, channels: int, name: str, strides: int = 1, shortcut: bool = False) -> Any:
        y = layers.Conv2D(channels, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        y = layers.BatchNormalization(name=f"{name}_norm")(y)
        if shortcut:
            y = layers.Add(name=f"{name}_add")([x, y])
        return layers.ReLU(name=f"{name}_relu")(y)

    def head(x: Any, channels: int, name: str) -> Any:
        cells = layers.Conv2D(CHANNELS, 1, name=f"{name}_cells")(convolution(x, channels, name))
        return layers.Reshape((-1, CHANNELS), name=f"{name}_rows")(cells)

    inputs = keras.Input((config.height, config.width, 3), name="image")
    stem, *stages = config.channels
    x = convolution(inputs, stem, "stride2", strides=2)
    heads = []
    for stride, channels, blocks in zip((4, 8, 16, 32), stages, config.blocks, strict=True):
        x = convolution(x, channels, f"stride{stride}", strides=2)
        for block in range(blocks):
            x = convolution(x, channels, f"stride{stride}_{block + 1}", shortcut=True)
        if stride in STRIDES:
            heads.append(head(x, channels, f"head{stride}"))
    model = keras.Model(inputs, layers.Concatenate(axis=1, name="faces")(heads), name="detector")
    for stride in STRIDES:
        # Nearly all cells are empty, and a detector that says so learns from the start (Lin et al. 2017, section 3.3).
        model.get_layer(f"head{stride}_cells").bias.assign([-4.0] + [0.0] * (CHANNELS - 1))
    return model


@dataclass(frozen=True)
class SceneBatch:
    """What one step learns from: `images` `(B, height, width, 3)`, normalised, and `truth` `(B, R, 13)`."""

    images: Float
    truth: Float


@dataclass(frozen=True)
class SceneBatches:
    """The endless stream of training batches: number `i` of the scenes is in batch `i // batch_size`."""

    scenes: Scenes
    batch_size: int
    epoch_scenes: int
    workers: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return self.epoch_scenes / self.batch_size

    def batch(self, step: int) -> SceneBatch:
        found = [self.scenes[index] for index in range(step * self.batch_size, (step + 1) * self.batch_size)]
        height, width = found[0].image.shape[:2]
        truth = np.stack([encode(scene.points, height, width) for scene in found])
        return SceneBatch(normalize(np.stack([scene.image for scene in found])), truth)

    def stream(self, sizes: list[int], start: int = 0) -> Generator[SceneBatch, None, None]:
        return ahead(self.batch, range(start, len(sizes)), self.workers)


def objective(loss: DetectorLossConfig, dense: Any = None) -> Objective:
    """What a detector learns by; `dense` is the model that it imitates."""
    from training import losses

    def truth(batch: SceneBatch) -> Float:
        if dense is None:
            return batch.truth
        return np.concatenate([batch.truth, np.asarray(dense.predict_on_batch(batch.images))], axis=2)

    return Objective({"faces": losses.detection(loss)}, {"faces": 1.0}, truth)


def find(folder: Path, found: Scenes, threads: int) -> list[Match]:
    """What the detector of a bundle finds in scenes, against what is there."""
    # Down to scores that no camera would take: how recall is bought with false faces is what is asked.
    detector = open_detector(folder, threshold=0.02, threads=threads)
    progress = Progress(len(found), f"evaluating {folder.name}", unit="images")
    matches = []
    for index in range(len(found)):
        scene = found[index]
        faces = detector.detect(scene.image)
        matches.append(match(faces.points, faces.scores, scene.points))
        progress.advance(1)
    progress.close()
    return matches


def judgement(matches: Mapping[str, Mapping[str, Sequence[Match]]], rates: Sequence[float]) -> Judgement:
    """What the matches of each model in each set of scenes tell.

    The recall that the gates look at is that of faces from 24 pixels on at `FPPI` in the composed scenes: their truth
    is known to the last face.

    Args:
        matches: by set, `scenes` among them, then by model, `dense` first and the compressed one last.
        rates: false faces an image for which the bundle gets thresholds.
    """
    recalls = {
        name: {model: recall_at(found, FPPI) for model, found in models.items()} for name, models in matches.items()
    }
    judged = {model: _counted(recall) for model, recall in recalls["scenes"].items()}
    changes = {
        model: asdict(paired_bootstrap(found, judged["dense"])) for model, found in judged.items() if model != "dense"
    }
    small = list(judged)[-1]
    compressed = matches["scenes"][small]
    thresholds = {str(rate): recall_at(compressed, rate).threshold for rate in rates}
    facts = [
        f"recall {_percent(recall.share(SIZES['24+']))} of faces from 24 pixels on in {len(matches[name][small]):,} "
        f"{name} of other people, at {FPPI:g} false faces an image (dense float model "
        f"{_percent(recalls[name]['dense'].share(SIZES['24+']))})"
        for name, recall in ((name, found[small]) for name, found in recalls.items())
    ]
    return Judgement(
        accuracies={model: float(found.mean()) for model, found in judged.items()},
        changes=changes,
        thresholds={rate: value for rate, value in thresholds.items() if np.isfinite(value)},
        figures={name: found[small].by_size() for name, found in recalls.items()},
        facts=facts,
        tables=[_listing(name, matches[name], recalls[name], changes) for name in matches],
        curves=_curves(matches["scenes"]),
    )


def _counted(recall: Recall) -> Any:
    return recall.found[recall.within(SIZES["24+"])]


def _listing(
    name: str, matches: Mapping[str, Sequence[Match]], recalls: Mapping[str, Recall], changes: Mapping[str, Any]
) -> Listing:
    columns = [(f"Recall, {sizes} px", "percent") for sizes in SIZES]
    columns += [("Average precision", "percent"), ("Points off, % of eye distance", "number")]
    judged = name == "scenes"
    if judged:
        columns.insert(0, ("Change of recall, 24+ px, points (95 % interval)", "interval"))
    rows: dict[str, list[Any]] = {}
    for model, recall in recalls.items():
        error = landmark_error(recall)
        cells = [*recall.by_size().values(), average_precision(matches[model]), error and round(error.mean, 2)]
        rows[model] = [changes.get(model), *cells] if judged else cells
    first = next(iter(recalls.values()))
    notes = [
        f"{len(first.false_positives):,} images with {len(first.found):,} faces, at {FPPI:g} false faces an image."
    ]
    if judged:
        notes.append("The gates judge by faces from 24 pixels on in these scenes.")
    return Listing(f"Faces found in {name}", columns, rows, notes)


def _curves(matches: Mapping[str, Sequence[Match]]) -> Curves:
    count = len(next(iter(matches.values())))
    lines = {}
    for model, found in matches.items():
        scores = np.unique(np.concatenate([each.scores for each in found]))
        chosen = np.quantile(scores, np.linspace(1, 0, 60)) if len(scores) else np.zeros(0)
        points = [(found_at(found, float(score)), float(score)) for score in chosen]
        x = [float(recall.false_positives.mean()) for recall, _ in points]
        y = [float(_counted(recall).mean()) for recall, _ in points]
        label = f"{_percent(recall_at(found, FPPI).share(SIZES['24+']))} at {FPPI:g}"
        lines[model] = {"x": x, "y": y, "label": label}
    return Curves(
        title="How well faces are found",
        caption="Share of the faces from 24 pixels on that are found, against false faces an image.",
        alt="Recall over false faces an image: " + "; ".join(f"{name} {line['label']}" for name, line in lines.items()),
        x="false faces an image",
        y="recall",
        x_is_share=False,
        lowest=1 / count,
        lines=lines,
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.2f} %"
