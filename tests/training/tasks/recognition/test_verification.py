"""Verification metrics against brute force and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.training.data.recognition.faces import Pairs
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.tasks.bootstrap import paired_bootstrap
from slimcam.training.tasks.recognition import verification


def pairs_of(same, folds=10):
    same = np.asarray(same, dtype=bool)
    count = len(same)
    return Pairs(np.arange(count), np.arange(count) + count, same, np.arange(count) % folds)


@given(
    # Multiples of 1/64: equal scores come up, and there is a number between any two others.
    st.lists(st.tuples(st.integers(-64, 64), st.booleans()), min_size=1, max_size=40),
)
def test_the_best_threshold_decides_as_many_pairs_as_any_other(rows):
    scores = np.array([score / 64 for score, _ in rows], dtype=np.float32)
    same = np.array([genuine for _, genuine in rows])
    candidates = np.concatenate([scores, [scores.min() - 1, scores.max() + 1]])
    most = max(np.sum((scores >= candidate) == same) for candidate in candidates)
    reached = np.sum((scores >= verification.best_threshold(scores, same)) == same)
    assert reached == most


def test_separable_pairs_reach_100_percent_and_random_ones_half():
    rng = np.random.default_rng(0)
    same = rng.random(4000) < 0.5
    assert verification.fold_accuracy(same + rng.uniform(0, 0.5, 4000), pairs_of(same)).mean == 1.0
    random = verification.fold_accuracy(rng.random(4000), pairs_of(same))
    assert abs(random.mean - 0.5) < 0.03
    assert random.deviation > 0


def test_accuracy_holds_out_the_fold_whose_threshold_is_sought():
    # One fold's scores are shifted: with a threshold of its own it would be perfect.
    same = np.tile([True, False], 100)
    scores = same.astype(np.float32)
    pairs = pairs_of(same, folds=10)
    shifted = pairs.fold == 3
    scores[shifted] += 5
    assert verification.fold_accuracy(scores, pairs).correct[shifted].mean() < 1.0


def test_impostor_scores_are_all_cross_identity_pairs():
    rng = np.random.default_rng(0)
    embeddings, labels = rng.normal(size=(20, 4)).astype(np.float32), rng.integers(0, 5, 20).astype(np.int32)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    brute = sorted(unit[i] @ unit[j] for i in range(20) for j in range(i) if labels[i] != labels[j])
    np.testing.assert_allclose(verification.impostor_scores(embeddings, labels), brute, atol=1e-5)


def test_a_threshold_accepts_no_more_impostors_than_its_rate():
    impostors = np.sort(np.random.default_rng(0).normal(size=10_000).astype(np.float32))
    for far in (0.1, 0.01, 0.001):
        threshold = verification.threshold_at_far(impostors, far)
        accepted = np.sum(impostors >= threshold)
        assert accepted == int(10_000 * far)


def test_a_rate_that_the_pairs_do_not_support_is_not_reported():
    impostors = np.sort(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    assert verification.threshold_at_far(impostors, 0.001) is None
    assert verification.tar_at_far(impostors, impostors, 0.001) is None
    assert verification.tar_at_far(np.array([9.0], np.float32), impostors, 0.05) == 1.0


def test_the_roc_rises_from_few_to_all_accepted():
    rng = np.random.default_rng(0)
    false, true = verification.roc(rng.normal(2, 1, 500), np.sort(rng.normal(0, 1, 5000)))
    assert np.all(np.diff(false) >= 0)
    assert np.all(np.diff(true) >= 0)
    assert true[np.searchsorted(false, 0.5)] > 0.9


def test_the_bootstrap_interval_covers_the_true_change_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        reference = rng.random(500) < 0.9
        flips = rng.random(500)
        correct = np.where(flips < 0.04, ~reference, reference)
        # Expected change: 4 % of the pairs flip; 90 % of them from right to wrong.
        interval = paired_bootstrap(correct, reference, samples=1000, seed=trial)
        covered += interval.low <= 0.04 * (0.1 - 0.9) <= interval.high
    assert 180 <= covered <= 200


def test_the_same_decisions_give_no_change_and_no_width():
    correct = np.random.default_rng(0).random(100) < 0.8
    interval = paired_bootstrap(correct, correct)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_sampled_pairs_are_distinct_balanced_and_true():
    labels = np.repeat(np.arange(20, dtype=np.int32), 5)
    pairs = sample_pairs(labels, 300, seed=3)
    assert len({(a, b) for a, b in zip(pairs.left, pairs.right, strict=True)}) == len(pairs) == 300
    assert pairs.same.sum() == 150
    np.testing.assert_array_equal(labels[pairs.left] == labels[pairs.right], pairs.same)
    for fold in range(10):
        assert pairs.same[pairs.fold == fold].sum() == 15


def test_sampling_pairs_without_a_genuine_one_is_refused():
    with pytest.raises(ValueError, match="two images of one identity"):
        sample_pairs(np.arange(10, dtype=np.int32), 10)
