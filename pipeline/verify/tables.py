"""The comparison as tables of text: costs, verification, identification, groups of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slimcam.deploy.latency.record import Latency
from slimcam.pipeline.report import wording
from slimcam.pipeline.verify.candidates import Candidate
from slimcam.pipeline.verify.compare import Comparison
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.tasks.bootstrap import Interval
from slimcam.training.tasks.recognition.scorecard import Scorecard

Rows = list[tuple[str, ...]]


def blocks(
    candidates: Sequence[Candidate], latencies: Mapping[str, Latency], results: Mapping[str, Comparison]
) -> list[str | Rows]:
    """All tables, and a sentence before those of each set of faces."""
    found: list[str | Rows] = [costs(candidates, latencies)]
    for name, result in results.items():
        first = next(iter(result.cards.values()))
        found.append(about(name, result.faces, first))
        found += [rows for rows in (verification(result.cards, result.changes), identification(result.cards)) if rows]
        if rows := groups(result.cards):
            found += [f"Both faces of a pair of one group, at each model's threshold of FAR {first.groups_far}:", rows]
    return found


def costs(candidates: Sequence[Candidate], latencies: Mapping[str, Latency]) -> Rows:
    """What each model costs; without milliseconds where none were measured."""
    rows: Rows = [("model", "MB", "MACs", *(("p50 ms", "p90 ms") if latencies else ()))]
    for candidate in candidates:
        cells = [wording.megabytes(candidate.size_bytes / 1e6), wording.count(candidate.macs)]
        if latencies:
            found = latencies[candidate.name]
            cells += [wording.milliseconds(found.p50), wording.milliseconds(found.p90)]
        rows.append((candidate.name, *cells))
    return rows


def verification(cards: Mapping[str, Scorecard], changes: Mapping[str, Interval]) -> Rows:
    """Accuracy, equal error rate, and true-accept rates with their intervals."""
    fars = list(next(iter(cards.values())).rates)
    rows: Rows = [
        (
            "verification",
            "accuracy",
            "± over folds",
            "change, points",
            "EER",
            *(f"TAR at FAR {_rate(far)}" for far in fars),
        )
    ]
    for name, card in cards.items():
        change = changes.get(name)
        rows.append(
            (
                name,
                wording.percent(card.accuracy.mean),
                f"{100 * card.accuracy.deviation:.2f}",
                "" if change is None else wording.interval(change.difference, change.low, change.high),
                wording.percent(card.equal_error_rate),
                *(
                    f"{100 * rate.tar:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
                    for rate in card.rates.values()
                ),
            )
        )
    return rows


def identification(cards: Mapping[str, Scorecard]) -> Rows:
    """Closed-set ranks and open-set rates; empty where nobody has photos enough."""
    trials = next(iter(cards.values())).identified
    heads = [
        f"{trial.photos} enrolled: {head}"
        for trial in trials
        for head in ("rank 1", "rank 5", *(f"TPIR at FPIR {_rate(rate)}" for rate in trial.tpir))
    ]
    if not heads:
        return []
    rows: Rows = [("identification", *heads)]
    for name, card in cards.items():
        shares = [
            share for trial in card.identified for share in (trial.rank_one, trial.rank_five, *trial.tpir.values())
        ]
        rows.append((name, *(wording.percent(share, 1) for share in shares)))
    return rows


def groups(cards: Mapping[str, Scorecard]) -> Rows:
    """The errors of each group by each model; empty where there are no groups."""
    first = next(iter(cards.values()))
    if not first.groups:
        return []
    rows: Rows = [("group", "images", "genuine", "impostors", "model", "accuracy", "TAR", "FAR")]
    for number, group in enumerate(first.groups):
        for name, card in cards.items():
            own = card.groups[number]
            counts = (f"{group.images:,}", f"{group.genuine:,}", f"{group.impostors:,}") if card is first else ("",) * 3
            rows.append(
                (
                    f"{group.attribute}: {group.value}" if card is first else "",
                    *counts,
                    name,
                    wording.percent(own.accuracy),
                    wording.percent(own.tar),
                    f"{100 * own.far:.3f} %",
                )
            )
    return rows


def about(name: str, faces: Verification, card: Scorecard) -> str:
    """What a set is, in a line."""
    pairs = f"{len(faces.pairs):,} pairs of {len(faces.faces):,} images"
    if faces.faces.unlabeled:
        return f"{name}: {pairs} without names; impostors are those of the pairs"
    people = len(set(faces.faces.labels.tolist()))
    line = f"{name}: {pairs} of {people:,} people; impostors are all {card.impostors:,} pairs of different people"
    for trial in card.identified:
        line += (
            f"; {trial.photos} enrolled of each of {trial.people:g} people: {trial.mated:,} probes of theirs, "
            f"{trial.non_mated:,} of others"
        )
    return line


def markdown(rows: Rows) -> str:
    """A table for a document."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---" + "|--:" * (len(rows[0]) - 1) + "|", *body])


def _rate(far: str) -> str:
    return f"{100 * float(far):g} %"
