"""Verification metrics against brute force and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.training.data.recognition.faces import UNLABELED, FaceSet, Pairs, Verification
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


def test_the_equal_error_rate_is_where_both_errors_meet():
    # Of the genuine pairs a quarter lies below 0.5, of the impostors a quarter above.
    genuine = np.array([0.1, 0.6, 0.7, 0.8], np.float32)
    impostors = np.sort(np.array([0.0, 0.2, 0.3, 0.9], np.float32))
    assert verification.equal_error_rate(genuine, impostors) == pytest.approx(0.25)
    assert verification.equal_error_rate(genuine + 1, impostors) == 0
    normal = np.random.default_rng(0).normal(size=(2, 20_000)).astype(np.float32)
    # Two normal distributions two deviations apart err equally often one deviation from either.
    assert verification.equal_error_rate(normal[0] + 2, np.sort(normal[1])) == pytest.approx(0.1587, abs=0.005)


def people(count, photos, spread, seed=0):
    """Embeddings of so many people, a verification set of them and its pairs."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), photos).astype(np.int32)
    embeddings = rng.normal(size=(count, 32))[labels] + spread * rng.normal(size=(len(labels), 32))
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    faces = FaceSet(images, labels, tuple(map(str, range(count))))
    return embeddings.astype(np.float32), Verification(faces, sample_pairs(labels, 400, seed=seed))


def test_comparisons_are_all_pairs_of_different_people_with_their_people():
    embeddings, faces = people(8, 4, 1.0)
    found = verification.comparisons(embeddings, faces)
    np.testing.assert_array_equal(found.impostors, verification.impostor_scores(embeddings, faces.faces.labels))
    assert np.all(found.impostor_people[0] != found.impostor_people[1])
    assert np.bincount(found.impostor_people.ravel()).tolist() == [4 * 28] * 8
    assert found.images.tolist() == [4] * 8


def test_intervals_hold_the_rate_and_cover_the_true_one():
    embeddings, faces = people(2000, 2, 1.6)
    everybody = verification.comparisons(embeddings, faces)
    truth = verification.tar_at_far(everybody.genuine, everybody.impostors, 0.01)
    covered = 0
    for trial in range(40):
        some = np.random.default_rng(trial).permutation(2000)[:60]
        rows = np.flatnonzero(np.isin(faces.faces.labels, some))
        labels = faces.faces.labels[rows]
        part = Verification(
            FaceSet(faces.faces.images[rows], labels, faces.faces.identities), sample_pairs(labels, 120)
        )
        found = verification.comparisons(embeddings[rows], part)
        low, high = verification.tar_intervals(found, [0.01], samples=200)["0.01"]
        assert low <= verification.tar_at_far(found.genuine, found.impostors, 0.01) <= high
        covered += low <= truth <= high
    assert covered >= 34


def test_intervals_of_nameless_pairs_come_from_the_pairs():
    embeddings, faces = people(100, 2, 1.0)
    nameless = Verification(
        FaceSet(faces.faces.images, np.full(len(faces.faces), UNLABELED, np.int32), ()), faces.pairs
    )
    found = verification.comparisons(embeddings, nameless)
    assert len(found.impostors) == np.sum(~faces.pairs.same)
    assert list(verification.tar_intervals(found, [0.1, 0.001])) == ["0.1"]
    low, high = verification.tar_intervals(found, [0.1])["0.1"]
    assert low < verification.tar_at_far(found.genuine, found.impostors, 0.1) <= high
