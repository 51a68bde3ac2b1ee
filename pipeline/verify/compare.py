"""Errors of recognizers on the same faces, each against the first, and their latencies measured in turn."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.latency.host import HostConfig, Timed, interleave, pinned
from slimcam.deploy.latency.machine import read_machine
from slimcam.deploy.latency.provenance import now_utc, own_version
from slimcam.deploy.latency.record import Latency
from slimcam.deploy.latency.statistics import latency
from slimcam.pipeline.verify.candidates import Candidate
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.tasks.bootstrap import Interval, paired_bootstrap
from slimcam.training.tasks.recognition.breakdown import values_of
from slimcam.training.tasks.recognition.scorecard import Scorecard, scorecard

LIBRARIES = ("ai-edge-litert", "onnxruntime", "keras", "tensorflow", "ncnn", "numpy")
"""Whose versions the results name, where they are installed."""


@dataclass(frozen=True)
class Comparison:
    """All recognizers on one set of faces.

    Attributes:
        faces: The set.
        cards: Errors of each recognizer, in the order in which they were named.
        changes: Change of accuracy against the first recognizer, on the same pairs, of each further one.
    """

    faces: Verification
    cards: dict[str, Scorecard]
    changes: dict[str, Interval]


def compare(
    candidates: Sequence[Candidate],
    faces: Verification,
    fars: Sequence[float],
    attributes: Mapping[str, Mapping[str, str]] | None = None,
) -> Comparison:
    """Evaluates recognizers on one set of faces.

    Args:
        attributes: of people or images, as `read_attributes` gives them.

    Raises:
        ValueError: an image is not readable, an embedding is not finite, or no person or image has attributes.
    """
    values = None if attributes is None else values_of(faces, attributes)
    cards = {each.name: scorecard(each.embed_all(faces.faces.images), faces, fars, values) for each in candidates}
    (_, first), *others = cards.items()
    changes = {name: paired_bootstrap(card.accuracy.correct, first.accuracy.correct) for name, card in others}
    return Comparison(faces, cards, changes)


def measure(candidates: Sequence[Candidate], samples: int, seconds: float) -> dict[str, Latency]:
    """Milliseconds of one inference of each on one thread, measured in turn; the pixels are prepared already."""
    timed = [Timed(candidate.prepared(), [], pinned(1)) for candidate in candidates]
    interleave(timed, HostConfig(samples=samples, seconds=seconds))
    return {candidate.name: latency(each.samples) for candidate, each in zip(candidates, timed, strict=True)}


def record(
    candidates: Sequence[Candidate], latencies: Mapping[str, Latency], results: Mapping[str, Comparison]
) -> dict[str, Any]:
    """All of it as values that JSON has, with what it was found with."""
    version, commit = own_version()
    return {
        "slimcam": {"version": version, "commit": commit},
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "time_utc": now_utc(),
        "machine": asdict(read_machine()),
        "models": {
            each.name: {
                "file": each.file.name,
                "sha256": file_sha256(each.file),
                "size_bytes": each.size_bytes,
                "macs": each.macs,
                "latency_ms": asdict(latencies[each.name]) if latencies else None,
            }
            for each in candidates
        },
        "sets": {
            name: {
                "pairs": len(result.faces.pairs),
                "images": len(result.faces.faces),
                "models": {model: _card(card) for model, card in result.cards.items()},
                "changes": {model: asdict(change) for model, change in result.changes.items()},
            }
            for name, result in results.items()
        },
    }


def unique_name(name: str, taken: Mapping[str, Any]) -> str:
    """The name of a set, numbered where another has it."""
    return name if name not in taken else next(new for n in range(2, 1000) if (new := f"{name} {n}") not in taken)


def _card(card: Scorecard) -> dict[str, Any]:
    found = asdict(card)
    found["accuracy"] = {"mean": card.accuracy.mean, "deviation": card.accuracy.deviation}
    found["roc"] = {"far": card.roc[0].tolist(), "tar": card.roc[1].tolist()}
    for name in ("edges", "genuine_histogram", "impostor_histogram"):
        found[name] = getattr(card, name).tolist()
    return found


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
