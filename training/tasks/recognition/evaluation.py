"""How well models tell people apart, as report, card and gates need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.model import Recognizer
from slimcam.training.data.images import IMAGE_SIZE, Images
from slimcam.training.data.recognition.batches import plain_batches
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.bootstrap import guessing, paired_bootstrap
from slimcam.training.tasks.recognition import verification
from slimcam.training.tasks.recognition.identification import PHOTOS, Identification, identification
from slimcam.training.tasks.task import Curves, Evaluation, Float, Listing


class VerificationResults:
    """Some models, results by the same faces.

    Attributes:
        accuracies: Accuracy of each model.
        rates: True-accept rates, thresholds and ROC of each model.
        identified: Identification rates of each model with each of `PHOTOS` enrolled, where there are enough people.
        changes: Change of each model's accuracy against the dense model's.
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
        pairs, impostors = len(self.faces.pairs), next(iter(self.rates.values()))["impostor_pairs"]
        counts = (
            f"{pairs:,} verification pairs of {len(np.unique(self.faces.faces.labels)):,} people, and {impostors:,} "
            "impostor pairs, which are all pairs of images of different people."
        )
        if self.faces.faces.unlabeled:
            counts = f"{pairs:,} verification pairs without names, {impostors:,} of them impostors."
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


def evaluation(results: Sequence[VerificationResults], validated: Sequence[str]) -> Evaluation:
    """What the report, the card and the gates need of it.

    Args:
        results: the models on the test, whose pairs the gates go by, and on people held out.
        validated: the stages in which weights were chosen by the people held out.
    """
    test, *others = results
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
    tables = [test.listing("Verification", ["The gates go by these pairs."])]
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
        results, ["the test", *(other.faces.source or "people held out" for other in others)], strict=True
    ):
        found = one.identification(f"Identification, {name}")
        if found is not None:
            tables.append(found)
    return Evaluation(
        accuracies={name: found.mean for name, found in test.accuracies.items()},
        changes=test.changes,
        thresholds=test.rates[small]["thresholds"],
        figures={"tar": tar},
        facts=facts,
        tables=tables,
        curves=_roc(test.rates),
        chance=guessing(0.5, len(test.faces.pairs)),
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

    Impostors are all pairs of images of different people, or those of the protocol where nobody is named; genuine pairs
    are those of the protocol.
    """
    pairs = verification.pair_scores(embeddings, faces.pairs)
    genuine = pairs[faces.pairs.same]
    impostors = verification.impostors_of(embeddings, faces)
    thresholds = {str(far): verification.threshold_at_far(impostors, far) for far in fars}
    accepted = {str(far): verification.tar_at_far(genuine, impostors, far) for far in fars}
    false, true = verification.roc(genuine, impostors)
    return {
        "impostor_pairs": len(impostors),
        "thresholds": {far: value for far, value in thresholds.items() if value is not None},
        "tar": {far: value for far, value in accepted.items() if value is not None},
        "roc": {"x": false.tolist(), "y": true.tolist()},
    }
