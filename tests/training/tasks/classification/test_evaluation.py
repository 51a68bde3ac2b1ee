from __future__ import annotations

import numpy as np

from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.tasks.bootstrap import guessing, wilson
from slimcam.training.tasks.classification.evaluation import evaluation


def images(labels, classes):
    labels = np.asarray(labels, np.int32)
    return FaceSet(np.zeros((len(labels), 2, 2, 3), np.uint8), labels, tuple(f"c{i}" for i in range(classes)))


def logits(answers, classes, sure=5.0):
    return sure * np.eye(classes, dtype=np.float32)[answers]


def test_accuracy_change_confusions_and_chance():
    labels = np.repeat([0, 1, 2], 100)
    small = labels.copy()
    small[:10] = 1  # ten of class 0 are taken for class 1
    found = evaluation({"dense": logits(labels, 3), "quantized": logits(small, 3)}, images(labels, 3), [0.05, 0.01])
    assert found.accuracies == {"dense": 1.0, "quantized": 290 / 300}
    assert found.changes["quantized"]["difference"] == -10 / 300
    assert 1 / 3 < found.chance == guessing(1 / 3, 300) < 0.5
    table, matrix = found.tables
    assert table.columns[0][0] == "Top-1 (95 % interval)"
    low, high = wilson(290, 300)
    assert table.rows["quantized"][0] == {"share": 290 / 300, "low": low, "high": high}
    assert matrix.subject == "Class"
    assert matrix.rows == {"c0": [90, 10, 0], "c1": [0, 100, 0], "c2": [0, 0, 100]}
    # One image of a hundred named wrongly would rest on three images.
    assert set(found.thresholds) == {"0.05"}


def test_top_five_counts_where_there_are_more_classes_and_only_then():
    labels = np.arange(20).repeat(5)
    ranks = np.stack([np.roll(np.arange(20, 0, -1, dtype=np.float32), label - 3) for label in labels])  # true one: 4th
    found = evaluation({"dense": ranks, "quantized": ranks}, images(labels, 20), [])
    assert found.accuracies["dense"] == 0.0
    assert found.figures == {"top5": 1.0}
    matrix = found.tables[1]
    assert matrix.title == "Most frequent confusions"
    assert matrix.rows["c3, taken for c0"] == [5, 1.0]


def test_a_threshold_lets_the_wrong_answers_through_that_were_asked_for_and_no_more():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 1000)
    outputs = logits(labels, 3, 2.0) + rng.normal(0, 1.5, (1000, 3)).astype(np.float32)
    found = evaluation({"dense": outputs, "quantized": outputs}, images(labels, 3), [0.02])
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    sure = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1) >= found.thresholds["0.02"]
    wrong = outputs.argmax(axis=1) != labels
    assert (sure & wrong).sum() == 20


def test_the_interval_of_a_share_is_wilsons():
    np.testing.assert_allclose(wilson(0, 10), (0.0, 0.2775), atol=1e-4)
    np.testing.assert_allclose(wilson(81, 263), (0.2553, 0.3662), atol=1e-4)
