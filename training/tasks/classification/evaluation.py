"""How well classifiers name what images show, as report, card and gates need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.model import Classifier
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.bootstrap import guessing, paired_bootstrap, wilson
from slimcam.training.tasks.task import Curves, Evaluation, Float, Listing

TOP = 5

_MOST_COLUMNS = 16
"""Classes up to which the report shows the whole confusion matrix."""

_SUPPORT = 10
"""Wrong answers that a threshold has to rest on."""


def predict(folder: Path, images: FaceSet, threads: int) -> Float:
    """Logits of all images by the model of a bundle, `(N, C)`.

    Raises:
        ValueError: the model names other classes than the data have.
    """
    model = Classifier(folder, threads)
    if model.classes != images.identities:
        raise ValueError(f"bundle {folder} names {len(model.classes)} classes, which are not those of the data")
    progress = Progress(len(images), f"evaluating {folder.name}", unit="images")
    logits = np.empty((len(images), len(model.classes)), np.float32)
    for index in range(len(images)):
        logits[index] = model.logits(images.images[index])
        progress.advance(1)
    progress.close()
    return logits


def evaluation(logits: Mapping[str, Float], images: FaceSet, rates: Sequence[float]) -> Evaluation:
    """What the logits of each model tell, `dense` first and the compressed one last.

    Args:
        rates: shares of images answered wrongly for which the bundle gets thresholds on the probability.
    """
    labels, names = images.labels, images.identities
    correct = {model: found.argmax(axis=1) == labels for model, found in logits.items()}
    several = len(names) > TOP
    among = {model: _rank(found, labels) < TOP for model, found in logits.items()}
    changes = {
        model: asdict(paired_bootstrap(right, correct["dense"])) for model, right in correct.items() if model != "dense"
    }
    small = list(logits)[-1]
    thresholds = {rate: _threshold(logits[small], correct[small], rate) for rate in rates}
    change = changes[small]
    low, high = wilson(int(correct[small].sum()), len(labels))
    facts = [
        f"top-1 accuracy {100 * correct[small].mean():.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f}) of "
        f"{len(labels):,} images of {len(names):,} classes not trained on (dense float model "
        f"{100 * correct['dense'].mean():.2f} %; change {100 * change['difference']:+.2f} points, 95 % interval "
        f"{100 * change['low']:+.2f} to {100 * change['high']:+.2f})"
    ]
    if several:
        facts.append(f"top-{TOP} accuracy {100 * among[small].mean():.2f} %")
    columns = [("Top-1 (95 % interval)", "estimate"), ("Change, points (95 % interval)", "interval")]
    if several:
        columns.append((f"Top-{TOP} (95 % interval)", "estimate"))
    columns.append(("Mean over classes", "percent"))
    rows = {
        model: [
            _estimate(right),
            changes.get(model),
            *([_estimate(among[model])] if several else []),
            float(np.mean([right[labels == label].mean() for label in np.unique(labels)])),
        ]
        for model, right in correct.items()
    }
    counts = f"{len(labels):,} images of {len(names):,} classes. The gates go by top-1."
    return Evaluation(
        accuracies={model: float(right.mean()) for model, right in correct.items()},
        changes=changes,
        thresholds={str(rate): value for rate, value in thresholds.items() if value is not None},
        figures={"top5": float(among[small].mean())} if several else {},
        facts=facts,
        tables=[
            Listing("Classification", columns, rows, [counts]),
            *_confusions(logits[small].argmax(axis=1), labels, names),
        ],
        curves=_curves(logits, correct),
        chance=guessing(1 / len(names), len(labels)),
    )


def probabilities(logits: Float) -> Float:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Float = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _rank(logits: Float, labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many classes are more probable than the true one."""
    own = logits[np.arange(len(labels)), labels]
    return np.asarray((logits > own[:, None]).sum(axis=1))


def _estimate(right: NDArray[np.bool_]) -> dict[str, float]:
    low, high = wilson(int(right.sum()), len(right))
    return {"share": float(right.mean()), "low": low, "high": high}


def _threshold(logits: Float, right: NDArray[np.bool_], rate: float) -> float | None:
    """The least probability at which at most this share of all images is answered wrongly; `None` without support."""
    if rate * len(right) < _SUPPORT:
        return None
    wrong = np.sort(probabilities(logits).max(axis=1)[~right])[::-1]
    allowed = int(rate * len(right))
    return float(np.nextafter(wrong[allowed], np.float32(2))) if len(wrong) > allowed else 0.0


def _confusions(found: NDArray[np.int64], labels: NDArray[np.int32], names: Sequence[str]) -> list[Listing]:
    """The confusion matrix of the compressed model, or of many classes what it confuses most."""
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (labels, found), 1)
    if len(names) <= _MOST_COLUMNS:
        rows = {name: [int(count) for count in row] for name, row in zip(names, matrix, strict=True)}
        note = "A row for each class, a column for each answer of the compressed model: numbers of images."
        return [Listing("Confusion matrix", [(name, "number") for name in names], rows, [note], "Class")]
    errors = matrix * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-errors, axis=None, kind="stable")[:20]
    pairs = [divmod(int(place), len(names)) for place in order if errors.flat[place]]
    most = {
        f"{names[true]}, taken for {names[answer]}": [
            int(errors[true, answer]),
            errors[true, answer] / matrix[true].sum(),
        ]
        for true, answer in pairs
    }
    columns = [("Images", "number"), ("Share of the class", "percent")]
    return [Listing("Most frequent confusions", columns, most, ["Of the compressed model."], "Class")]


def _curves(logits: Mapping[str, Float], correct: Mapping[str, NDArray[np.bool_]]) -> Curves:
    """Right and wrong answers, both as shares of all images, as the least probability to answer at falls."""
    lines: dict[str, dict[str, Any]] = {}
    for model, found in logits.items():
        order = np.argsort(-probabilities(found).max(axis=1), kind="stable")
        right = correct[model][order]
        chosen = np.unique(np.linspace(0, len(right) - 1, 200).astype(int))
        x, y = np.cumsum(~right)[chosen] / len(right), np.cumsum(right)[chosen] / len(right)
        lines[model] = {"x": x.tolist(), "y": y.tolist(), "label": f"{100 * right.mean():.1f} %"}
    count = len(next(iter(correct.values())))
    return Curves(
        title="How surely classes are named",
        caption="Share of the images that are named rightly, against the share named wrongly, as the model answers "
        "less and less probable ones too; at the right end it answers all.",
        alt="Right over wrong answers: " + "; ".join(f"{name} {line['label']} right" for name, line in lines.items()),
        x="named wrongly",
        y="named rightly",
        x_is_share=True,
        lowest=1 / count,
        lines=lines,
    )
