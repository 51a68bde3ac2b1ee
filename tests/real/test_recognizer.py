"""The recognizer that comes with slimcam, on real faces of people whom it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.inference.model import Recognizer
from slimcam.training.data.recognition import lfw
from slimcam.training.data.recognition.faces import Pairs
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.tasks.recognition import verification

ROOT = Path(__file__).parents[2]
DATA = ROOT / ".." / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared, the real faces, is not there")


def test_the_committed_recognizer_is_as_good_as_its_bundle_says():
    recognizer = Recognizer(ROOT / "deploy/models/recognizer")
    data = lfw.load(LfwConfig(root=str(DATA)))
    shown = np.unique(np.concatenate([data.pairs.left, data.pairs.right]))
    place = np.searchsorted(shown, np.arange(len(data.test)))
    embeddings = recognizer.embed(np.stack([data.test.images[int(index)] for index in shown]))
    pairs = Pairs(place[data.pairs.left], place[data.pairs.right], data.pairs.same, data.pairs.fold)
    scores = verification.pair_scores(embeddings, pairs)
    # Kernels of another processor round differently; a pair or two may turn over.
    assert verification.fold_accuracy(scores, pairs).mean == pytest.approx(
        recognizer.bundle.figures["accuracy"], abs=0.005
    )
