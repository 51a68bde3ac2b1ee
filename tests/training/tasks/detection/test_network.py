"""The network of a detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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


@pytest.mark.parametrize("size", [(64, 96), (72, 100)])
def test_a_new_top_down_pathway_changes_nothing_until_it_has_learned(size):
    config = replace(SMALL, height=size[0], width=size[1])
    plain, pyramid = network(config), network(replace(config, top_down=True))
    for layer in plain.layers:
        pyramid.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    expected = plain.predict(images, verbose=0)
    np.testing.assert_allclose(pyramid.predict(images, verbose=0), expected, atol=1e-5)
    for stride in (8, 16):
        pyramid.get_layer(f"top_down{stride}_norm").gamma.assign(np.ones(8))
    assert np.abs(pyramid.predict(images, verbose=0) - expected).max() > 0.1


def test_the_finest_map_sees_the_surroundings_by_the_top_down_pathway_alone():
    config = replace(SMALL, height=192, width=192)
    far = np.zeros((2, 192, 192, 3), np.float32)
    far[1, :, 40:] = 5
    for top_down in (False, True):
        model = network(replace(config, top_down=top_down))
        if top_down:
            for stride in (8, 16):
                model.get_layer(f"top_down{stride}_norm").gamma.assign(np.ones(8))
        black, lit = model.predict(far, verbose=0)
        # The first cell of the finest map: the light is 36 pixels off.
        assert np.any(black[0] != lit[0]) == top_down
