"""Small pictures of people, made here."""

from __future__ import annotations

import cv2
import numpy as np
import pytest


@pytest.fixture
def write_image():
    """Writes an image of noise, decided by its seed; gives its pixels, BGR."""
    return _write_image


def _write_image(path, seed=0, size=112):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size=(size, size, 3), dtype=np.uint8)
    cv2.imencode(path.suffix, pixels)[1].tofile(path)
    return pixels


@pytest.fixture
def people(tmp_path):
    for person in range(10):
        for number in range(3):
            _write_image(tmp_path / "faces" / f"person {person}" / f"{number}.png", seed=10 * person + number)
    return tmp_path / "faces"


@pytest.fixture
def small_lfw(tmp_path):
    for name in ("Ann_A", "Bob_B", "Cy_C", "Di_D"):
        for number in (1, 2):
            _write_image(tmp_path / "lfw112" / "images" / name / f"{name}_{number:04d}.jpg", seed=number)
    (tmp_path / "lfw112" / "peopleDevTrain.txt").write_text("2\nAnn_A\t2\nBob_B\t2\n")
    (tmp_path / "lfw112" / "pairsDevTest.txt").write_text(
        "Cy_C\t1\t2\nDi_D\t1\t2\nCy_C\t1\tDi_D\t1\nCy_C\t2\tDi_D\t2\n"
    )
    return tmp_path
