"""InsightFace's records of the real faces that developers share; see README, "Real data"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.training.data.recognition.encoded import encoded
from slimcam.training.tools.convert_faces import convert, open_faces

IMAGES = Path(__file__).parents[2] / ".." / "shared/data/lfw112/images"

pytestmark = pytest.mark.skipif(not IMAGES.is_dir(), reason="../shared, the real faces, is not there")


@pytest.mark.parametrize("form", ["records", "shards"])
def test_all_of_lfw_is_read_back_equal(form, tmp_path):
    assert convert(IMAGES, tmp_path, form).endswith(f"13,233 images of 5,749 people, as {form}")
    expected, found = open_faces(IMAGES), open_faces(tmp_path)
    assert found.identities == expected.identities
    np.testing.assert_array_equal(found.labels, expected.labels)
    for index in range(len(expected)):
        np.testing.assert_array_equal(encoded(found.images, index), encoded(expected.images, index))
