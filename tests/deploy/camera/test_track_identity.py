from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.camera.track_identity import (
    Candidate,
    EmbeddedView,
    IdentityMatcher,
    RecognizeConfig,
    TrackIdentity,
    choose,
)
from slimcam.deploy.types import Identity

CONFIG = RecognizeConfig()
SIZE = 64


def test_who_was_never_looked_at_comes_first_then_better_views_then_the_longest_ago() -> None:
    candidates = [
        Candidate(1, 0.5, best=0.5, since=9, wait=1),
        Candidate(2, 0.5, best=0.5, since=5, wait=1),
        Candidate(3, 0.9, best=0.5, since=0.5, wait=8),
        Candidate(4, 0.2),
        Candidate(5, 0.4),
        Candidate(6, 0.5, best=0.5, since=0.9, wait=1),
    ]
    assert choose(candidates, RecognizeConfig(budget=9)) == [5, 4, 3, 1, 2]
    assert choose(candidates, RecognizeConfig(budget=2)) == [5, 4]


def test_a_better_view_waits_for_a_moment_too() -> None:
    assert choose([Candidate(1, 0.9, best=0.3, since=CONFIG.spacing / 2, wait=1)], CONFIG) == []


candidates = st.builds(
    Candidate,
    track=st.integers(1, 50),
    quality=st.floats(0.01, 1),
    best=st.none() | st.floats(0.01, 1),
    since=st.floats(0, 20),
    wait=st.floats(0, 8),
)


@given(st.lists(candidates, max_size=30, unique_by=lambda one: one.track), st.integers(1, 5))
@settings(deadline=None)
def test_the_budget_holds_and_the_order_does_not_matter(found: list[Candidate], budget: int) -> None:
    config = RecognizeConfig(budget=budget)
    chosen = choose(found, config)
    assert len(chosen) == len(set(chosen)) <= budget
    assert choose(found[::-1], config) == chosen
    never = {one.track for one in found if one.best is None}
    assert len(never & set(chosen)) == min(budget, len(never))


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


def direction(seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=SIZE))


def noisy(person: np.ndarray, cosine: float, rng: np.random.Generator) -> np.ndarray:
    """An embedding with this cosine with that of a person."""
    other = rng.normal(size=len(person))
    other = unit(other - other @ person * person)
    return unit(cosine * person + np.sqrt(1 - cosine**2) * other)


class Gallery:
    """Knows people by one template each."""

    def __init__(self, people: dict[str, np.ndarray], least: float = 0.6) -> None:
        self.people, self.least, self.asked = people, least, 0

    def match(self, embedding: np.ndarray) -> Identity:
        self.asked += 1
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)
        score, name = max((float(embedding @ template), name) for name, template in self.people.items())
        return Identity(name, name, score, 1.0) if score >= self.least else Identity(None, None, score, 1.0)


ANNA, BERT = direction(1), direction(2)
BOTH = Gallery({"Anna": ANNA, "Bert": BERT})


def vote(
    votes: TrackIdentity, embedding: np.ndarray, matcher: IdentityMatcher, seconds: float = 0, quality: float = 0.8
) -> str | None:
    return votes.answer(matcher.match(votes.mean)) if votes.add(EmbeddedView(embedding, quality), seconds) else None


def test_the_mean_of_noisy_views_finds_who_the_majority_of_them_does_not() -> None:
    """Views have a cosine of 0.5 with the template, of which 0.6 is asked."""
    rng = np.random.default_rng(0)
    found = alone = 0
    for _ in range(100):
        views = [noisy(ANNA, 0.5, rng) for _ in range(5)]
        votes = TrackIdentity(CONFIG)
        told = [vote(votes, view, BOTH) for view in views]
        assert votes.identity is not None
        found += votes.identity.person == "Anna"
        alone += sum(BOTH.match(view).person == "Anna" for view in views) >= 3
        assert "Bert" not in told
    assert (found, alone) == (100, 0)


def test_better_views_count_more_and_the_best_are_kept() -> None:
    rng = np.random.default_rng(0)
    votes = TrackIdentity(RecognizeConfig(votes=3, exchanged=-1))
    for quality, cosine in ((0.1, 0.1), (0.9, 0.9), (0.2, 0.1), (0.8, 0.9), (0.7, 0.9)):
        votes.add(EmbeddedView(noisy(ANNA, cosine, rng), quality), 0)
    assert [look.quality for look in votes.views] == [0.9, 0.8, 0.7]
    assert votes.mean @ ANNA > 0.9
    heavy = TrackIdentity(RecognizeConfig(exchanged=-1))
    heavy.add(EmbeddedView(ANNA, 0.9), 0)
    heavy.add(EmbeddedView(BERT, 0.1), 0)
    assert heavy.mean @ ANNA > 0.95


def test_a_person_is_told_after_two_looks_and_a_stranger_after_all() -> None:
    votes = TrackIdentity(CONFIG)
    assert [vote(votes, ANNA, BOTH) for _ in range(4)] == [None, "recognised", None, None]
    stranger = TrackIdentity(CONFIG)
    told = [vote(stranger, direction(3), BOTH) for _ in range(7)]
    assert told == [None] * 4 + ["unknown", None, None]
    # What is shown meanwhile is what is known so far.
    assert TrackIdentity(CONFIG).identity is None


def test_a_settled_face_is_looked_at_ever_less_often() -> None:
    votes, waits = TrackIdentity(CONFIG), []
    for _ in range(8):
        vote(votes, ANNA, BOTH)
        waits.append(votes.wait)
    assert waits == [CONFIG.spacing, 1, 2, 4, 8, 8, 8, 8]


def test_an_answer_near_the_threshold_does_not_flicker() -> None:
    """The score is now above and now below, and each answer comes once."""
    votes = TrackIdentity(CONFIG)
    assert [vote(votes, ANNA, BOTH) for _ in range(CONFIG.votes)].count("recognised") == 1
    known, unknown = BOTH.match(ANNA), Identity(None, None, 0.59, 1.0)
    for identity in [unknown, known] * 10:
        assert votes.answer(identity) is None
        assert votes.identity == known
    assert [votes.answer(unknown) for _ in range(4)] == [None, "unknown", None, None]


def test_a_stranger_who_takes_over_a_track_is_noticed() -> None:
    votes = TrackIdentity(CONFIG)
    for _ in range(5):
        vote(votes, ANNA, BOTH)
    assert votes.wait > CONFIG.spacing
    assert vote(votes, BERT, BOTH) is None
    assert (votes.identity.person, votes.wait) == ("Anna", CONFIG.spacing)  # type: ignore[union-attr]
    assert vote(votes, BERT, BOTH) is None
    assert votes.identity is not None
    assert votes.identity.person == "Bert"
    assert len(votes.views) == 2
    assert vote(votes, BERT, BOTH) == "recognised"


def test_one_odd_view_changes_nothing() -> None:
    votes = TrackIdentity(CONFIG)
    for i in range(12):
        vote(votes, direction(50 + i) if i % 3 == 2 else ANNA, BOTH)
    assert votes.identity is not None
    assert votes.identity.person == "Anna"
    assert votes.mean @ ANNA > 0.999


def test_a_bad_first_view_alone_makes_nobody() -> None:
    """Bert's view, then Anna: that Bert's mean is asked for again is no second look at him."""
    votes = TrackIdentity(CONFIG)
    told = [vote(votes, view, BOTH) for view in (BERT, ANNA, ANNA, ANNA)]
    assert told == [None, None, None, "recognised"]
    assert votes.identity is not None
    assert votes.identity.person == "Anna"


def test_a_vote_that_begins_anew_and_ends_the_same_is_no_news() -> None:
    votes = TrackIdentity(CONFIG)
    told = [vote(votes, ANNA, BOTH) for _ in range(3)]
    told += [vote(votes, view, BOTH) for view in (direction(7), direction(8), ANNA, ANNA, ANNA)]
    assert told.count("recognised") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget", 0),
        ("votes", 0),
        ("agree", 0),
        ("spacing", -1),
        ("again", 0.01),
        ("rest", float("inf")),
        ("better", 0.5),
        ("exchanged", 1.5),
    ],
)
def test_senseless_options_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"recognize\..*{field}") as error:
        RecognizeConfig(**{field: value})
    assert "\n" not in str(error.value)
