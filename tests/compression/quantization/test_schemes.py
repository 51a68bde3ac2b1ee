"""Patterns of layer names."""

from __future__ import annotations

import pytest

from slimcam.compression.quantization.schemes import Scheme, by_pattern

LAYERS = ["stem", "stem_norm", "block1_conv", "block1_add", "block2_conv", "pool", "embedding"]
KERNELS = ["stem", "block1_conv", "block2_conv", "embedding"]


def test_the_last_pattern_that_matches_a_layer_counts() -> None:
    found = by_pattern({"block*": "float", "block2_*": "int8"}, LAYERS, KERNELS)
    assert found == {"block1_conv": "float", "block1_add": "float", "block2_conv": "int8"}


def test_first_and_last_are_layers_with_a_kernel() -> None:
    assert by_pattern({"first": 0.0, "last": 0.1}, LAYERS, KERNELS) == {"stem": 0.0, "embedding": 0.1}


def test_a_pattern_without_a_layer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"no layer of the model is called 'embeddin'; did you mean 'embedding'\?"):
        by_pattern({"embeddin": "float"}, LAYERS, KERNELS)


def test_every_scheme_has_its_facts() -> None:
    assert all(scheme.facts.text for scheme in Scheme)
    assert [scheme for scheme in Scheme if scheme.facts.trains] == ["qat_int8"]
