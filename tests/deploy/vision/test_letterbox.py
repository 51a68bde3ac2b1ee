from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.vision.letterbox import letterbox

HEIGHT, WIDTH = 96, 128


@pytest.mark.parametrize(
    ("frame", "inner"),
    [
        ((96, 128), (96, 128)),
        ((480, 640), (96, 128)),
        ((250, 250), (96, 96)),
        ((1080, 1920), (72, 128)),
        ((1920, 1080), (96, 54)),
        ((24, 32), (96, 128)),
        ((1, 1), (96, 96)),
        ((1, 30000), (1, 128)),
        ((30000, 1), (96, 1)),
        ((333, 457), (93, 128)),
    ],
)
def test_frames_are_fitted_and_padded_with_gray(frame: tuple[int, int], inner: tuple[int, int]) -> None:
    image, scale = letterbox(np.full((*frame, 3), 7, np.uint8), HEIGHT, WIDTH)
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert (image[: inner[0], : inner[1]] == 7).all()
    assert (image[inner[0] :] == 128).all()
    assert (image[:, inner[1] :] == 128).all()
    np.testing.assert_allclose(scale, [inner[1] / frame[1], inner[0] / frame[0]])


def test_a_frame_that_shrinks_is_averaged() -> None:
    frame = np.zeros((4 * HEIGHT, 4 * WIDTH, 3), np.uint8)
    frame[::4, ::4] = 160
    assert (letterbox(frame, HEIGHT, WIDTH)[0] == 10).all()


def test_an_array_that_is_used_again_holds_nothing_of_the_frame_before() -> None:
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for shape in ((480, 640), (1920, 1080), (1080, 1920), (HEIGHT, WIDTH)):
        frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        image, _ = letterbox(frame, HEIGHT, WIDTH, out)
        assert image is out
        np.testing.assert_array_equal(image, letterbox(frame, HEIGHT, WIDTH)[0])
