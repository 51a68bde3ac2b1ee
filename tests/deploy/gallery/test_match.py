from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.gallery.match import Matcher, threshold
from slimcam.deploy.gallery.people import Person, Snapshot

RECOGNIZER = Path(__file__).parents[3] / "deploy/models/recognizer"


def snapshot(embeddings: Any, owners: Any, size: int = 4) -> Snapshot:
    people = tuple(
        Person(f"{i:032x}", f"person {i}", 0, 0.0, None, "rendered") for i in range(max(owners, default=-1) + 1)
    )
    rows = np.array(embeddings, np.float32).reshape(-1, size)
    return Snapshot(1, people, rows, np.array(owners, np.int64))


AXES = np.eye(4, dtype=np.float32)


def test_a_person_scores_what_their_best_template_does() -> None:
    matcher = Matcher(snapshot(AXES[[0, 1, 2]], [0, 0, 1]), 0.5)
    identity = matcher.match(np.array([0.1, 0.8, 0.59, 0], np.float32))
    assert (identity.person, identity.name) == (f"{0:032x}", "person 0")
    assert identity.score == pytest.approx(0.8)
    assert identity.margin == pytest.approx(0.21)


def test_below_the_threshold_nobody_is_known() -> None:
    matcher = Matcher(snapshot(AXES[[0, 1]], [0, 1]), 0.8)
    identity = matcher.match(np.array([0.79, 0.1, 0.6, 0], np.float32))
    assert (identity.person, identity.name, identity.known) == (None, None, False)
    assert identity.score == pytest.approx(0.79)
    assert Matcher(snapshot(AXES[[0, 1]], [0, 1]), 0.75).match(np.array([0.79, 0.1, 0.6, 0], np.float32)).known


def test_a_face_that_two_people_fit_is_unknown() -> None:
    face = np.array([0.7, 0.68, 0.2, 0], np.float32)
    assert Matcher(snapshot(AXES[[0, 1]], [0, 1]), 0.5).match(face).known
    assert not Matcher(snapshot(AXES[[0, 1]], [0, 1]), 0.5, margin=0.05).match(face).known
    # Two templates of one person are no rivals.
    assert Matcher(snapshot(AXES[[0, 1]], [0, 0]), 0.5, margin=0.05).match(face).known


def test_an_empty_gallery_knows_nobody() -> None:
    identity = Matcher(snapshot([], []), -1.0).match(AXES[0])
    assert (identity.person, identity.score, identity.margin) == (None, -1.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8), st.floats(-1, 1), st.floats(0, 0.5))
def test_the_search_agrees_with_one_person_at_a_time(
    seed: int, rows: int, people: int, least: float, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    embeddings = unit_length(rng.standard_normal((rows, 4)).astype(np.float32))
    owners = rng.integers(0, people, rows)  # not in order
    probe = unit_length(rng.standard_normal((1, 4)).astype(np.float32))[0]
    scores = {int(owner): max(float(e @ probe) for e in embeddings[owners == owner]) for owner in set(owners)}
    best = max(scores, key=lambda owner: scores[owner])
    runner_up = max((score for owner, score in scores.items() if owner != best), default=-1.0)
    identity = Matcher(snapshot(embeddings, owners.tolist()), least, margin).match(probe)
    assert identity.score == pytest.approx(scores[best], abs=1e-6)
    assert identity.margin == pytest.approx(scores[best] - runner_up, abs=1e-6)
    if min(abs(scores[best] - least), abs(identity.margin - margin), identity.margin) > 1e-5:
        known = scores[best] >= least and scores[best] - runner_up >= margin
        assert identity.person == (f"{best:032x}" if known else None)


@pytest.mark.parametrize(
    "embedding", [np.zeros(3, np.float32), np.zeros((1, 4), np.float32), np.full(4, np.nan, np.float32)]
)
def test_other_embeddings_are_refused(embedding: Any) -> None:
    with pytest.raises(ValueError, match="4 finite numbers"):
        Matcher(snapshot(AXES, [0, 1, 2, 3]), 0.5).match(embedding)


@pytest.mark.parametrize(("least", "margin"), [(1.5, 0), (-2, 0), (0.5, -0.1), (0.5, 3), (float("nan"), 0)])
def test_thresholds_and_margins_out_of_range_are_refused(least: float, margin: float) -> None:
    with pytest.raises(ValueError, match="a threshold is in"):
        Matcher(snapshot(AXES, [0, 1, 2, 3]), least, margin)


def test_the_threshold_of_a_rate_is_the_bundles() -> None:
    bundle: Any = SimpleNamespace(path="b", thresholds={"0.01": 0.3, "0.001": 0.5, "1e-05": 0.9})
    assert threshold(bundle, 0.001) == 0.5
    assert threshold(bundle, 0.00001) == 0.9
    with pytest.raises(
        ValueError, match=r"bundle b has no threshold for a false accept rate of 0.002, only for far=0.01, 0.001"
    ):
        threshold(bundle, 0.002)
    bundle.thresholds = {}
    with pytest.raises(ValueError, match="has no thresholds: it was not evaluated"):
        threshold(bundle, 0.1)
