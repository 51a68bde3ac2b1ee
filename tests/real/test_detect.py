"""Alignment and detection on the photos that developers share; see README, "Real data"."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.vision.align import align, alignment, face_boxes
from slimcam.deploy.vision.detector import YuNet, open_detector

ROOT = Path(__file__).parents[2]
SHARED = ROOT / ".." / "shared"
PHOTOS, CROPS = SHARED / "data/detect", SHARED / "data/lfw112/images"
YUNET = SHARED / "detectors/yunet_n_dynamic.onnx"

pytestmark = pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared, the real faces, is not there")


def photos(count: int) -> list[tuple[Path, np.ndarray]]:
    """The first fully labeled photos of the test list, and the points of their face."""
    with (PHOTOS / "test.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["faces_found"] == "1"][:count]
    names = [("lx", "ly"), ("rx", "ry"), ("nx", "ny"), ("mlx", "mly"), ("mrx", "mry")]
    points = [np.array([[float(row[x]), float(row[y])] for x, y in names]) for row in rows]
    return [(PHOTOS / "test" / row["path"], face) for row, face in zip(rows, points, strict=True)]


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def test_aligned_photos_are_the_crops_that_recognizers_are_trained_on() -> None:
    compressed, raw = [], []
    for path, points in photos(200):
        expected = read(CROPS / path.stem.rpartition("_")[0] / path.name).astype(np.int16)
        crop = align(read(path), points)
        # The crops are kept as JPEG of quality 90, which is nearly all that they differ by.
        coded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        compressed.append(np.abs(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1] - expected).mean())
        raw.append(np.abs(crop - expected).mean())
    # 0.0005 and 1.6 on average; by another interpolation 0.9 more, by an alignment that leaves points out 1.5 more.
    assert np.mean(compressed) < 0.01
    assert np.mean(raw) < 1.8


def test_crops_that_leave_the_photo_are_black_there() -> None:
    cut = []
    with (PHOTOS / "train.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            points = np.array([float(row[name]) for name in list(row)[3:]]).reshape(5, 2)
            inverse = cv2.invertAffineTransform(alignment(points))
            corners = np.array([[0, 0], [111, 0], [0, 111], [111, 111]]) @ inverse[:, :2].T + inverse[:, 2]
            if corners.min() < 0 or corners.max() > 249:
                cut.append((row["path"], points))
    assert cut
    for name, points in cut:
        coded = cv2.imencode(".jpg", align(read(PHOTOS / "train" / name), points)[..., ::-1], [1, 90])[1]
        expected = cv2.imread(str(CROPS / name.rpartition("_")[0] / name))
        assert np.abs(cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.int16) - expected).mean() < 0.01


def test_yunet_gives_the_points_in_the_order_of_the_picture() -> None:
    detector = YuNet(YUNET, threshold=0.7, input=(250, 250))
    for path, expected in photos(20):
        faces = detector.detect(read(path))
        # The labels are YuNet's own, so its points are found again where nothing is resized.
        np.testing.assert_allclose(faces.points[0], expected, atol=0.02)
        left, right, nose, *mouth = faces.points[0]
        assert left[0] < right[0]
        assert mouth[0][0] < mouth[1][0]
        assert nose[1] > min(left[1], right[1])
        assert (np.diff(faces.scores) <= 0).all()


def test_yunets_points_are_mapped_back_to_the_pixels_of_the_frame() -> None:
    detector = YuNet(YUNET, threshold=0.7, input=(250, 250))
    for path, expected in photos(20):
        # Shrunk by averaging, each block of 3x3 equal pixels is the photo's one again.
        frame = read(path).repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_allclose(detector.detect(frame).points[0], 3 * expected + 1, atol=0.06)


def test_yunet_finds_the_faces_of_photos_fitted_into_its_default_input() -> None:
    detector = YuNet(YUNET)
    errors, sizes = [], []
    for path, expected in photos(100):
        found = detector.detect(read(path)).points
        errors.append(np.linalg.norm(found - expected, axis=2).mean(axis=1).min() if len(found) else np.inf)
        sizes.append(np.linalg.norm(expected[1] - expected[0]))
    # Its own points move by some pixels when a photo of 250 pixels is shrunk to 240.
    assert np.median(np.array(errors) / sizes) < 0.07
    assert np.mean(np.array(errors) / sizes < 0.2) >= 0.97


def test_boxes_from_points_are_about_the_boxes_that_yunet_draws() -> None:
    yunet = cv2.FaceDetectorYN.create(str(YUNET), "", (250, 250), 0.7)
    overlaps = []
    for path, points in photos(100):
        x, y, w, h = yunet.detect(cv2.imread(str(path)))[1][0, :4]
        a, b, c, d = face_boxes(points[np.newaxis])[0]
        shared = max(0, min(x + w, a + c) - max(x, a)) * max(0, min(y + h, b + d) - max(y, b))
        overlaps.append(shared / (w * h + c * d - shared))
    assert np.mean(overlaps) > 0.68  # 0.72 over all photos; its boxes reach further up and down


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (10000, 10000)])
def test_yunet_takes_frames_of_all_sizes(size: tuple[int, int]) -> None:
    assert len(YuNet(YUNET).detect(np.zeros((*size, 3), np.uint8))) == 0


def test_yunet_refuses_a_grey_frame() -> None:
    with pytest.raises(ValueError, match="COLOR_GRAY2RGB"):
        YuNet(YUNET).detect(np.zeros((240, 320), np.uint8))


def test_the_committed_detector_finds_whom_a_photo_is_of() -> None:
    detector = open_detector(ROOT / "deploy/models/detector")
    errors = []
    for path, points in photos(300):
        found = detector.detect(read(path)).points
        off = np.linalg.norm(found - points, axis=2).mean(axis=1) / np.linalg.norm(points[0] - points[1])
        errors.append(off.min(initial=1))
    # The labels are single answers of another detector, which differ from each other by 5 to 6 %.
    assert np.median(errors) < 0.075
    assert np.mean(np.array(errors) < 0.2) > 0.98
