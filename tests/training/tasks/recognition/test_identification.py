"""Open-set identification against brute force and known cases."""

from __future__ import annotations

import numpy as np
import pytest

from slimcam.training.tasks.recognition.identification import identification

LABELS = np.repeat(np.arange(40), 5).astype(np.int32)


def embeddings_of(spread: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(40, 16))[LABELS] + spread * rng.normal(size=(200, 16))).astype(np.float32)


def test_people_who_are_far_apart_are_all_identified():
    found = identification(embeddings_of(0.01), LABELS, 1, [0.1])
    assert (found.rank_one, found.tpir) == (1.0, {"0.1": 1.0})
    # 20 of the 40 in each round: four probes of each, and five images of each of the others.
    assert (found.people, found.mated, found.non_mated) == (20, 160, 200)


def test_random_embeddings_name_one_in_as_many_as_are_enrolled():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 100).astype(np.int32)
    found = identification(rng.normal(size=(2000, 64)).astype(np.float32), labels, 1, [0.1, 0.01])
    assert found.rank_one == pytest.approx(1 / 10, abs=0.03)
    assert found.tpir["0.01"] < found.tpir["0.1"] < found.rank_one


def test_more_photos_enrolled_identify_better_and_a_lower_rate_of_false_alarms_worse():
    one, three = (identification(embeddings_of(1.2), LABELS, photos, [0.2, 0.1]) for photos in (1, 3))
    assert three.rank_one > one.rank_one > one.tpir["0.2"] >= one.tpir["0.1"]


def test_a_rate_is_the_share_of_other_people_who_are_taken_for_somebody():
    # Nobody resembles anybody: whoever passes the threshold is there by the rate alone.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(200), 2).astype(np.int32)
    embeddings = rng.normal(size=(400, 8)).astype(np.float32)
    found = identification(embeddings, labels, 1, [0.1])
    assert found.tpir["0.1"] <= 0.1


def test_rates_that_too_few_people_support_are_absent():
    found = identification(embeddings_of(0.5), LABELS, 1, [0.1, 0.001])
    assert list(found.tpir) == ["0.1"]


def test_there_is_nothing_to_identify_where_nobody_has_another_photo():
    assert identification(embeddings_of(0.5), LABELS, 5, [0.1]) is None


def test_rank_five_counts_who_is_among_the_five_most_similar():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 100).astype(np.int32)
    found = identification(rng.normal(size=(2000, 64)).astype(np.float32), labels, 1, [0.1])
    assert found.rank_five == pytest.approx(5 / 10, abs=0.05)
    assert identification(embeddings_of(0.01), LABELS, 1, [0.1]).rank_five == 1.0
