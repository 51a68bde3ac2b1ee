"""What each group of channels can lose."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from slimcam.compression.pruning.config import PruningRatioConfig
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.pruning.sensitivity import Sensitivity, sensitivity

L = keras.layers


def measured(**left: tuple[float, float]) -> Sensitivity:
    return Sensitivity("accuracy", 0.9, dict.fromkeys(left, (0.5, 0.8)), left, dict.fromkeys(left, 10))


def test_suggested_ratios_lose_alike_and_remove_the_share_that_is_asked_for() -> None:
    found = measured(hardy=(0.85, 0.8), tender=(0.7, 0.5)).suggested(0.4)

    assert found == {"hardy": 0.62, "tender": 0.18}
    assert sum(found.values()) / 2 == pytest.approx(0.4)


def test_groups_without_which_the_model_is_better_lose_all_that_was_tried() -> None:
    assert measured(one=(0.95, 0.92), other=(0.9, 0.91)).suggested(0.4) == {"one": 0.8, "other": 0.8}


def test_a_multiple_that_no_group_can_be_cut_to_is_refused() -> None:
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, L.Conv2D(2, 1)(L.Conv2D(6, 1)(inputs)))
    samples = Samples(lambda: [np.zeros((2, 4, 4, 3), np.float32)])
    with pytest.raises(ValueError, match="multiples of round_to=8: the largest has 6; lower round_to"):
        sensitivity(model, PruningRatioConfig(round_to=8), samples)
