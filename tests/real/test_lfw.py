"""The data sources and the teachers on the real faces that developers share; see README, "Real data"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.training.data.recognition import lfw
from slimcam.training.data.recognition.batches import plain_batches
from slimcam.training.data.recognition.faces import FaceData, Pairs
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.tasks.recognition import verification
from slimcam.training.tasks.recognition.config import TeacherConfig
from slimcam.training.tasks.recognition.teacher import open_teacher

SHARED = Path(__file__).parents[2] / ".." / "shared"
DATA, WEIGHTS = SHARED / "data", SHARED / "weights"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared, the real faces, is not there")


@pytest.fixture(scope="module")
def data() -> FaceData:
    return lfw.load(LfwConfig(root=str(DATA)))


def first_pairs(pairs: Pairs, count: int) -> Pairs:
    """The first pairs of each kind."""
    kept = np.concatenate([np.flatnonzero(pairs.same == kind)[: count // 2] for kind in (True, False)])
    return Pairs(pairs.left[kept], pairs.right[kept], pairs.same[kept], np.arange(count) % 10)


def test_lfw_is_whole_and_its_people_disjoint(data):
    assert len(data.train.identities) == 4038
    assert len(data.train) == 9525
    assert len(data.pairs) == 1000
    assert data.pairs.same.sum() == 500
    assert data.notes == ()
    assert not set(data.train.identities) & set(data.test.identities)
    same = data.test.labels[data.pairs.left] == data.test.labels[data.pairs.right]
    np.testing.assert_array_equal(same, data.pairs.same)


@pytest.mark.parametrize(
    ("teacher", "least"),
    [
        (TeacherConfig(path=str(WEIGHTS / "mobilefacenet_pixamatch.onnx")), 0.97),
        (TeacherConfig(path=str(WEIGHTS / "mobilefacenet_993_int8.tflite"), crop=[0, 8, 112, 96]), 0.97),
    ],
    ids=["onnx", "tflite"],
)
def test_a_teacher_recognises_people_with_its_own_crop_and_normalisation(data, teacher, least):
    pairs = first_pairs(data.pairs, 200)
    shown = np.unique(np.concatenate([pairs.left, pairs.right]))
    place = np.searchsorted(shown, np.arange(len(data.test)))
    images = [data.test.images[int(index)] for index in shown]
    embed = open_teacher(teacher)
    embeddings = np.concatenate([embed(batch).embeddings for batch in plain_batches(images, 112, 16)])
    moved = Pairs(place[pairs.left], place[pairs.right], pairs.same, pairs.fold)
    assert verification.fold_accuracy(verification.pair_scores(embeddings, moved), moved).mean >= least
