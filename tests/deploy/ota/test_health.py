from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.ota.device.health import EARLY, LEAST_SAMPLES, Baseline, Health, matched
from slimcam.deploy.types import Identity

ADA, BOB, NOBODY = Identity("a", "Ada", 0.6, 0.3), Identity("b", "Bob", 0.6, 0.3), Identity(None, None, 0.1, 0.0)
FRAMES = 100
TWO = np.array(
    [[[0, 0], [10, 0], [5, 5], [2, 10], [8, 10]], [[100, 0], [110, 0], [105, 5], [102, 10], [108, 10]]], np.float32
)
"""Points of two faces."""

BEFORE = {"detect": 10.0, "embed": 20.0}


def window(
    detect: float = 10.0,
    embed: float = 20.0,
    faces: tuple[np.ndarray, np.ndarray] = (TWO, TWO),
    look: tuple[Identity, Identity] = (ADA, ADA),
) -> Health:
    health = Health(BEFORE, FRAMES, 150)
    for number in range(FRAMES):
        assert health.verdict() is None
        health.add({"detect": detect, **({"embed": embed} if number % 5 == 0 else {})})
        if number % 10 == 0:
            health.add_faces(*faces)
        if number % 5 == 0:
            health.add_look(*look)
    return health


def test_a_release_that_is_as_good_is_kept() -> None:
    health = window()
    assert health.verdict() == ""
    assert health.percent == 100
    assert "20 of 20 views of enrolled people recognized as before" in health.figures()


def test_the_bound_is_the_percentage_that_is_signed_and_some_slack() -> None:
    assert window(detect=16.9).verdict() == ""
    with pytest.raises(AssertionError):  # it ends early
        window(detect=17.1)


def test_a_slow_release_ends_early() -> None:
    health = Health(BEFORE, FRAMES, 150)
    for _ in range(EARLY - 1):
        health.add({"detect": 40.0})
        assert health.verdict() is None
    health.add({"detect": 40.0})
    assert health.verdict() == ("detect takes 40.00 ms (p50 of 30), 10.00 ms (p90) before; at most 17.00 are allowed")


def test_a_few_slow_frames_are_no_slow_release_and_many_are() -> None:
    for slow, bad in ((5, False), (15, True)):
        health = Health(BEFORE, FRAMES, 150)
        for number in range(FRAMES):
            health.add({"detect": 60.0 if number < slow else 10.0})
        assert bool(health.verdict()) is bad


@pytest.mark.parametrize(("now", "bad"), [(ADA, False), (NOBODY, True), (BOB, True)])
def test_enrolled_people_must_be_recognized_as_before(now: Identity, bad: bool) -> None:
    found = window(look=(ADA, now)).verdict()
    assert found == (
        "views of enrolled people recognized: 0 of the 20 of the models before, at least 80% are wanted" if bad else ""
    )


def test_strangers_prove_nothing() -> None:
    assert window(look=(NOBODY, ADA)).verdict() == ""
    health = Health({}, FRAMES, 150)
    for number in range(FRAMES):
        health.add({})
        if number < LEAST_SAMPLES - 1:
            health.add_look(ADA, NOBODY)
    assert health.verdict() == ""


@pytest.mark.parametrize("now", [TWO[:0], TWO + 40], ids=["none", "elsewhere"])
def test_a_detector_that_misses_faces_is_bad_though_nobody_is_looked_at(now: np.ndarray) -> None:
    health = Health(BEFORE, FRAMES, 150)
    for number in range(FRAMES):
        health.add({"detect": 10.0})
        if number % 10 == 0:
            health.add_faces(TWO, now)
    assert health.verdict() == "faces found: 0 of the 20 of the models before, at least 80% are wanted"


def test_the_baseline_is_of_the_newest_frames_and_of_stages_that_ran() -> None:
    baseline = Baseline(50)
    for number in range(200):
        baseline.add({"detect": float(number), "match": 1.0, **({"embed": 5.0} if number < 5 else {})})
    assert baseline.p90() == {"detect": pytest.approx(np.percentile(range(150, 200), 90))}
    assert baseline.frames == 200


def test_a_detector_that_sees_faces_everywhere_is_bad() -> None:
    many = np.concatenate([TWO, TWO + 500, TWO + 900])
    assert window(faces=(TWO, many)).verdict() == (
        "40 faces found where the models before have none, who have 20 in all"
    )
    assert window(faces=(TWO, many[:3])).verdict() == ""


def test_faces_that_are_a_little_off_are_the_same() -> None:
    assert matched(TWO, TWO + 3) == 2
    assert matched(TWO, TWO + 6) == 0
    assert matched(TWO, TWO[:1]) == 1
    assert matched(TWO[:0], TWO) == 0
