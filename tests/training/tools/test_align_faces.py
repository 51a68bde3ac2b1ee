"""Photos to aligned crops: what is listed, and that a stopped run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.inference.bundle import DETECTOR
from slimcam.deploy.vision.align import TEMPLATE
from slimcam.deploy.vision.detector import open_detector
from slimcam.training.data.drawing.portrait import draw_face
from slimcam.training.data.images import decode, read_bytes
from slimcam.training.tools.align_faces import SKIPPED, align_folder

ROOT = Path(__file__).parent.parent.parent.parent


def photo(*places: tuple[int, int, int]) -> np.ndarray:
    """A gray photo with rendered faces at left, top and side."""
    image = np.full((240, 320, 3), 120, np.uint8)
    for person, (left, top, side) in enumerate(places):
        image[top : top + side, left : left + side] = cv2.resize(draw_face(person, 1), (side, side))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = {
        "anna/one.jpg": photo((60, 40, 150)),
        "anna/one.png": photo((20, 20, 150)),
        "anna/far/away.png": photo((100, 60, 140), (10, 10, 56)),
        "bert/two.png": photo((10, 40, 140), (165, 40, 140)),
        "bert/none.png": photo(),
    }
    for name, image in photos.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    (tmp_path / "photos/bert/broken.jpg").write_bytes(b"no image")
    (tmp_path / "photos/.hidden").mkdir()
    (tmp_path / "photos/.hidden/x.png").write_bytes(b"")
    return tmp_path / "photos"


def test_crops_are_aligned_and_what_has_no_face_or_several_is_listed(folder: Path, tmp_path: Path) -> None:
    detector = open_detector(DETECTOR)
    line = align_folder(folder, tmp_path / "out", detector)
    assert line.startswith("3 of 6 photos aligned")
    assert "1 no face, 1 not a readable image, 1 several faces (listed in " in line
    crops = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert crops == ["anna/far/away.png.png", "anna/one.jpg.png", "anna/one.png.png"]
    crop = decode(read_bytes(tmp_path / "out/anna/one.png.png"))
    assert crop is not None
    assert crop.shape == (112, 112, 3)
    (points,) = detector.detect(
        cv2.copyMakeBorder(crop, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(120, 120, 120))
    ).points
    assert np.abs(points - 60 - TEMPLATE).max() < 12


class Counting:
    def __init__(self) -> None:
        self.detector, self.seen = open_detector(DETECTOR), 0

    def detect(self, frame: np.ndarray) -> object:
        self.seen += 1
        if self.seen == 3:
            raise KeyboardInterrupt
        return self.detector.detect(frame)


def test_a_stopped_run_goes_on_and_looks_at_nothing_twice(folder: Path, tmp_path: Path) -> None:
    detector, out = Counting(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        align_folder(folder, out, detector)  # type: ignore[arg-type]
    assert align_folder(folder, out, detector).startswith("3 of 6")  # type: ignore[arg-type]
    assert detector.seen == 6  # five photos can be read, and one of them was begun twice
    listed = (out / SKIPPED).read_text()
    assert align_folder(folder, out, detector).startswith("3 of 6")  # type: ignore[arg-type]
    assert (detector.seen, (out / SKIPPED).read_text()) == (6, listed)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    for arguments, line in (
        (["nowhere", "out"], "there is no folder nowhere"),
        ([".", "."], "the crops go to a folder of their own"),
        ([".", "out"], "there is no photo in . or below it"),
    ):
        command = [sys.executable, "-m", "slimcam.training.tools.align_faces", *arguments]
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
        )
        assert ended.returncode == 1
        # LiteRT says a line of its own when it opens the detector.
        assert ended.stderr.splitlines()[-1].startswith(f"slimcam-align: {line}")
        assert "Traceback" not in ended.stderr
