from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.vision.shot_boundary import Cuts


def scene(seed: int, height: int = 360, width: int = 640) -> np.ndarray:
    """Something with structure: blocks of gray."""
    blocks = np.random.default_rng(seed).integers(0, 200, (height // 40, width // 40), dtype=np.uint8)
    return np.repeat(np.kron(blocks, np.ones((40, 40), np.uint8))[..., np.newaxis], 3, axis=2)


def told(*images: np.ndarray) -> list[bool]:
    cuts = Cuts()
    return [cuts.cut(image) for image in images]


def test_another_scene_is_a_cut_and_the_first_frame_is_none() -> None:
    one, other = scene(1), scene(2)
    assert told(one, one, other, other, one) == [False, False, True, False, True]


def test_movement_is_none() -> None:
    one = scene(1)
    assert not any(told(*(np.roll(one, 12 * i, axis=1) for i in range(20))))


def test_light_that_goes_up_or_down_is_none() -> None:
    one = scene(1)
    assert told(one, (one * 0.4).astype(np.uint8), np.clip(one * 1.2 + 20, 0, 255).astype(np.uint8)) == [False] * 3


@pytest.mark.parametrize("level", [0, 16, 128])
def test_the_noise_of_a_plain_picture_is_none(level: int) -> None:
    rng = np.random.default_rng(0)
    frames = [np.clip(rng.normal(level, 12, (360, 640, 3)), 0, 255).astype(np.uint8) for _ in range(10)]
    assert not any(told(*frames))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 5000), (1080, 1920)])
def test_frames_of_all_sizes_work(size: tuple[int, int]) -> None:
    black, white = np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8)
    assert told(black, white, white) == [False, False, False]  # light that is switched on
