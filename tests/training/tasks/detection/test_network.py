"""The network of a detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slimcam.deploy.vision import detector_output
from slimcam.training.tasks.detection.config import DetectorConfig
from slimcam.training.tasks.detection.network import network

SMALL = DetectorConfig(height=64, width=96, channels=[4, 8, 8, 8, 8], blocks=[1, 0, 1, 0])


def test_the_network_has_a_row_for_each_cell_and_says_at_first_that_all_are_empty():
    model = network(SMALL)
    assert model.output_shape == (None, len(detector_output.cell_centers(64, 96)), detector_output.CHANNELS)
    output = model.predict(np.zeros((1, 64, 96, 3), np.float32), verbose=0)
    assert np.all(output[..., 0] < -3)
    odd = network(replace(SMALL, height=72, width=100))
    assert odd.output_shape[1] == len(detector_output.cell_centers(72, 100))
