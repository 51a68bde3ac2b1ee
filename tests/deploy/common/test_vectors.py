from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.common.vectors import unit_length


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_vectors_get_length_1_along_the_last_axis(shape: tuple[int, ...]) -> None:
    vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    unit = unit_length(vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-6)


def test_a_vector_of_zeros_stays_zero() -> None:
    assert unit_length(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]
