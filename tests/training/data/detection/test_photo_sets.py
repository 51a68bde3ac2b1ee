"""Sets of photographs to train on: copies, what is kept out, and labels. YuNet is not at hand: its finds are given."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE, face_boxes
from slimcam.training.data.detection import photo_sets
from slimcam.training.data.detection.finds import VIEWS
from slimcam.training.data.detection.photo_scenes import mosaic, photograph_scene
from slimcam.training.data.detection.photo_sets import LONGEST, load_photographs
from slimcam.training.data.detection.scenes import Mixed, ScenesConfig, load

FACE = ((TEMPLATE - TEMPLATE.mean(axis=0)) * 100 / 72 + (600, 300)).astype(np.float32)


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (1200, 600), interpolation=cv2.INTER_CUBIC)


def write(path, image, *boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    if boxes:
        lines = [f"0 {(x + w / 2) / 1200} {(y + h / 2) / 600} {w / 1200} {h / 600}" for x, y, w, h in boxes]
        path.with_suffix(".txt").write_text("\n".join(lines))


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two sets and one to evaluate by; the labeler sees the same face in every photograph but those called `empty`."""
    box = face_boxes(FACE)[0]
    write(tmp_path / "boxed" / "a.png", picture(1), box, (100, 100, 60, 80))
    write(tmp_path / "boxed" / "copy.png", picture(1) // 2, box)
    write(tmp_path / "boxed" / "listed.png", picture(2), box)
    write(tmp_path / "boxed" / "copy_of_listed.png", picture(2)[:, ::-1], box)
    write(tmp_path / "boxed" / "evaluated_too.png", cv2.resize(picture(3), (600, 300)), box)
    write(tmp_path / "evaluated" / "photograph.png", picture(3), box)
    write(tmp_path / "streets" / "b.png", picture(4))
    write(tmp_path / "streets" / "empty.png", picture(5))
    (tmp_path / "left_out.tsv").write_text("boxed\tlisted.png\nelsewhere\ta.png\n")
    (tmp_path / "yunet.onnx").write_bytes(b"")

    def finds_in(files, _detector, _cache):
        rows = np.stack([np.concatenate([[view, 0.9], FACE.ravel()]) for view in range(VIEWS)]).astype(np.float32)
        return [rows[:0] if path.stem == "empty" else rows for path in files]

    monkeypatch.setattr(photo_sets, "finds_in", finds_in)
    return tmp_path


def load_sets(folder):
    sets = [folder / "boxed", folder / "streets"], [], [folder / "evaluated"], folder / "left_out.tsv"
    return load_photographs(*sets, folder / "yunet.onnx", folder / "cache")


def test_copies_and_what_is_kept_out_are_left_out_with_their_copies(sets):
    photographs, notes = load_sets(sets)
    assert len(photographs) == 2
    first, second = photographs
    assert first.labels.boxed.tolist() == [False, True]
    assert second.labels.boxed.tolist() == [False]
    assert notes[0].startswith("boxed: 1 of 5 photographs with 2 faces, 1 of them known by their box alone; left out 4")
    assert notes[1].endswith("left out 0 copies and photographs that are kept out, and 1 without a box or a sure find")


def test_labels_are_shrunk_with_their_photograph(sets):
    photographs, _ = load_sets(sets)
    image = cv2.imdecode(photographs[1].pixels, cv2.IMREAD_COLOR)
    assert image.shape == (LONGEST // 2, LONGEST, 3)
    np.testing.assert_allclose(photographs[1].labels.points[0], (FACE + 0.5) * LONGEST / 1200 - 0.5, atol=1e-3)


def test_photographs_are_mixed_with_composed_scenes_and_the_same_each_time(sets):
    config = ScenesConfig(
        people=4,
        test_scenes=1,
        photos=[str(sets / "boxed")],
        photo_share=0.5,
        labeler=str(sets / "yunet.onnx"),
    )
    data = load(config, sets / "cache")
    assert isinstance(data.scenes, Mixed)
    scenes = [data.scenes[index] for index in range(12)]
    assert 2 < sum(bool(scene.boxed.any()) for scene in scenes) < 10
    np.testing.assert_array_equal(data.scenes[5].image, scenes[5].image)


def test_a_background_has_no_face_boxed_or_found_and_any_part_of_it_is_shown(sets):
    write(sets / "animals" / "empty.png", picture(6))
    write(sets / "animals" / "somebody.png", picture(7))
    kept_out = [sets / "evaluated"], None, sets / "yunet.onnx", sets / "cache"
    photographs, notes = load_photographs([sets / "streets"], [sets / "animals", sets / "boxed"], *kept_out)
    assert [len(each.labels.points) for each in photographs] == [1, 0]
    assert notes[1].endswith(
        "1 of 2 photographs as backgrounds; left out 0 copies and photographs that are kept out, and 1 with faces"
    )
    assert notes[2].startswith("boxed: 0 of 5 photographs as backgrounds")
    scenes = [photograph_scene(photographs[1], 24, 32, np.random.default_rng(seed)) for seed in range(12)]
    assert all(not len(scene.points) and not len(scene.ignored) for scene in scenes)
    assert len({scene.image.tobytes() for scene in scenes}) > 6
    assert mosaic([photographs[1]] * 4, 24, 32, np.random.default_rng(0)).points.shape == (0, 5, 2)


def test_what_is_asked_for_and_cannot_be_is_told(sets):
    with pytest.raises(ValueError, match=r"data\.photos need points: set data\.labeler"):
        ScenesConfig(photos=["photographs"])
    with pytest.raises(ValueError, match=r"data\.backgrounds are beside photographs with faces: set data\.photos"):
        ScenesConfig(backgrounds=["animals"])
    (sets / "left_out.tsv").write_text("boxed listed.png\n")
    with pytest.raises(ValueError, match=r"left_out\.tsv: each line is the name of a set, a tab, and the path"):
        load_sets(sets)
    (sets / "left_out.tsv").write_text("streets\tb.png\n")
    with pytest.raises(ValueError, match="no photograph is left to train on"):
        load_photographs([sets / "streets"], [], [], sets / "left_out.tsv", sets / "yunet.onnx", sets / "cache")
