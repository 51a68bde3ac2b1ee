"""Detectors beside each other on photographs with boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.inference.bundle import MODEL
from slimcam.deploy.vision.align import face_boxes
from slimcam.deploy.vision.detector import open_detector
from slimcam.training.data.detection.labels import evaluation_photographs
from slimcam.training.data.detection.scenes import ScenesConfig, load
from slimcam.training.tools.compare_detectors import Peer, compare_photographs, main

BUNDLE = Path(__file__).parents[3] / "deploy" / "models" / "detector"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Rendered faces of which every second has a box twice as large as photographed at 320x240, and a YOLO list."""
    folder = tmp_path_factory.mktemp("photographs")
    scenes = load(ScenesConfig(people=4, test_scenes=1), folder / "cache").test["photos"]
    for number in range(4):
        scene = scenes[number]
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(scene.image[..., ::-1], (640, 480)))
        x, y, w, h = face_boxes(scene.points)[0] / (320, 240, 320, 240)
        (folder / f"{number}.txt").write_text(f"{number % 2} {x + w / 2} {y + h / 2} {w} {h}\n0 0.01 0.01 0.01 0.01\n")
    (folder / "classes.txt").write_text("drawn\nalso drawn\n")
    return folder


def test_faces_are_counted_by_label_and_by_their_width_at_the_input(photographs):
    evaluated = evaluation_photographs(photographs, None, photographs / "cache")
    peer = Peer(open_detector(BUNDLE), open_detector(BUNDLE, 0.02), BUNDLE / MODEL)
    title, table, _ = compare_photographs("rendered", evaluated, {"slimcam": peer}, (240, 320), full_size=False)
    assert title.startswith("rendered: 4 photographs, 4 faces boxed by people and at least 8 pixels wide"), (
        "3 px is none"
    )
    head, *_, row = table.splitlines()
    assert "also drawn (2)" in head
    assert "48+ px (4)" in head
    assert row.startswith("slimcam, 320x240")
    assert row.count("100.0 %") == 4, "all, two labels, and 48+ px"


def test_a_sheet_shows_found_faces_green_and_missed_ones_red(photographs, tmp_path):
    evaluated = evaluation_photographs(photographs, None, photographs / "cache")

    def draw(detector, file):
        peers = {"slimcam": Peer(detector, detector, BUNDLE / MODEL)}
        compare_photographs("rendered", evaluated, peers, (240, 320), full_size=False, sheet=file)

    colors = []
    for detector in (open_detector(BUNDLE, 0.02), open_detector(BUNDLE, 0.9999)):
        draw(detector, tmp_path / "sheet.png")
        sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
        colors.append([int((sheet == color).all(axis=2).sum()) for color in ((0, 200, 0), (255, 0, 0))])
    assert colors[0][0] > 1000 > colors[0][1]
    assert colors[1][1] > 1000 > colors[1][0], "nothing is found with a score of 0.9999"
    with pytest.raises(ValueError, match=r"sheet\.txt: images are written as"):
        draw(detector, tmp_path / "sheet.txt")


def test_wrong_use_is_told_in_a_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(BUNDLE), "--yunet", "yunet.onnx"])
    assert "give --photographs, --data, or both" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"compare_detectors: .*nowhere\.onnx"):
        main([str(BUNDLE), "--yunet", str(tmp_path / "nowhere.onnx"), "--photographs", str(tmp_path)])
    np.testing.assert_equal(list(tmp_path.iterdir()), [])
