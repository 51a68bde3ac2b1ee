"""How well detectors find faces, as report, card and gates need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.vision.detector import open_detector
from slimcam.training.data.detection.labels import EvaluationPhotograph
from slimcam.training.data.detection.scenes import Scenes
from slimcam.training.data.images import read_picture
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.bootstrap import paired_bootstrap
from slimcam.training.tasks.detection.metrics import (
    SIZES,
    Match,
    Recall,
    average_precision,
    found_at,
    landmark_error,
    match,
    recall_at,
)
from slimcam.training.tasks.detection.photographs import match_photograph
from slimcam.training.tasks.task import Curves, Evaluation, Listing

FPPI = 0.1
"""False faces an image, at which recall is compared."""

LEAST_SCORE = 0.02
"""Of a face that is looked at, far below what a camera takes: how recall is bought with false faces is asked."""


PHOTOGRAPHS = "photographs"
"""Name of the set of real photographs that people boxed."""


def find(folder: Path, found: Scenes, threads: int) -> list[Match]:
    """What the detector of a bundle finds in scenes, against what is there."""
    detector = open_detector(folder, threshold=LEAST_SCORE, threads=threads)
    progress = Progress(len(found), f"evaluating {folder.name}", unit="images")
    matches = []
    for index in range(len(found)):
        scene = found[index]
        faces = detector.detect(scene.image)
        matches.append(match(faces.points, faces.scores, scene.points))
        progress.advance(1)
    progress.close()
    return matches


def find_boxed(
    folder: Path, photographs: Sequence[EvaluationPhotograph], height: int, width: int, threads: int
) -> list[Match]:
    """What the detector of a bundle finds in photographs, against the boxes that people drew."""
    detector = open_detector(folder, threshold=LEAST_SCORE, threads=threads)
    progress = Progress(len(photographs), f"evaluating {folder.name}", unit="photographs")
    matches = []
    for photograph in photographs:
        image = read_picture(photograph.path)
        matches.append(match_photograph(detector.detect(image), photograph, image, height, width))
        progress.advance(1)
    progress.close()
    return matches


def evaluation(matches: Mapping[str, Mapping[str, Sequence[Match]]], rates: Sequence[float]) -> Evaluation:
    """What the matches of each model in each set of scenes tell.

    The recall that the gates look at is that of faces from 24 pixels on at `FPPI` in the composed scenes: their truth
    is known to the last face.

    Args:
        matches: by set, `scenes` among them, then by model, `dense` first and the compressed one last.
        rates: false faces an image for which the bundle gets thresholds: in real photographs where there are some,
            `PHOTOGRAPHS`, for what a camera sees is not composed.
    """
    recalls = {
        name: {model: recall_at(found, FPPI) for model, found in models.items()} for name, models in matches.items()
    }
    gated = {model: _counted(recall) for model, recall in recalls["scenes"].items()}
    changes = {
        model: asdict(paired_bootstrap(found, gated["dense"])) for model, found in gated.items() if model != "dense"
    }
    small = list(gated)[-1]
    compressed = matches.get(PHOTOGRAPHS, matches["scenes"])[small]
    thresholds = {str(rate): recall_at(compressed, rate).threshold for rate in rates}
    facts = [
        f"recall {_percent(recall.share(SIZES['24+']))} of faces from 24 pixels on in {len(matches[name][small]):,} "
        f"{name} of other people, at {FPPI:g} false faces an image (dense float model "
        f"{_percent(recalls[name]['dense'].share(SIZES['24+']))})"
        for name, recall in ((name, found[small]) for name, found in recalls.items())
    ]
    return Evaluation(
        accuracies={model: float(found.mean()) for model, found in gated.items()},
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
    gated = name == "scenes"
    if gated:
        columns.insert(0, ("Change of recall, 24+ px, points (95 % interval)", "interval"))
    rows: dict[str, list[Any]] = {}
    for model, recall in recalls.items():
        error = landmark_error(recall)
        cells = [*recall.by_size().values(), average_precision(matches[model]), error and round(error.mean, 2)]
        rows[model] = [changes.get(model), *cells] if gated else cells
    first = next(iter(recalls.values()))
    notes = [
        f"{len(first.false_positives):,} images with {len(first.found):,} faces, at {FPPI:g} false faces an image."
    ]
    if gated:
        notes.append("The gates go by faces from 24 pixels on in these scenes.")
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
