from __future__ import annotations

import numpy as np

from slimcam.deploy.benchmark.a53.emulator import differences


def test_integers_must_be_the_same() -> None:
    ours = np.array([1, 2, 3], np.int8)
    assert differences([ours], [ours.copy()]) is None
    other = np.array([1, 2, 4], np.int8)
    assert differences([other], [ours]) == (
        "the emulated ARM computes other outputs than this machine: 1 of 3 differ, by at most 1"
    )


def test_embeddings_of_an_int8_model_must_be_the_same_too() -> None:
    embedding, output = np.array([0.5, 0.25], np.float32), np.array([4, 2], np.int8)
    assert differences([embedding, output], [embedding, output]) is None
    assert differences([embedding + 1e-6, output], [embedding, output])


def test_floats_may_be_rounded_otherwise_but_not_lost() -> None:
    ours = np.array([10.0, -0.001], np.float32)
    assert differences([ours + 0.005], [ours]) is None
    assert differences([ours + 0.05], [ours])
    assert differences([np.array([10.0, np.nan], np.float32)], [ours])
