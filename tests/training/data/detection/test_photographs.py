"""Lists of boxed faces in the formats that people have them in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimcam.training.data.detection.photographs import read_photographs

VOC = """<annotation><filename>elsewhere.jpg</filename>
<object><name>mask</name><difficult>0</difficult><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>20</xmax><ymax>25</ymax>
</bndbox></object>
<object><name>none</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>
</bndbox></object></annotation>"""


def draw(path, width=100, height=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_pascal_voc_counts_pixels_from_one_and_ignores_what_is_difficult(tmp_path):
    draw(tmp_path / "JPEGImages" / "a.png")
    draw(tmp_path / "JPEGImages" / "unlabeled.png")
    write(tmp_path / "Annotations" / "a.xml", VOC)
    (found,) = read_photographs(tmp_path)
    assert (found.name, found.labels, found.boxed) == ("JPEGImages/a.png", ("mask", "none"), True)
    np.testing.assert_allclose(found.boxes, [(10, 5, 10, 20), (0, 0, 5, 5)])
    assert found.ignored.tolist() == [False, True]


@pytest.mark.parametrize(
    ("file", "names"), [("classes.txt", "open\nmask\n"), ("data.yaml", "nc: 2\nnames: ['open', 'mask']\n")]
)
def test_yolo_boxes_are_shares_of_the_image_and_a_file_names_the_classes(tmp_path, file, names):
    for part in ("train", "val"):
        draw(tmp_path / "images" / part / "0.png")
    write(tmp_path / "labels" / "train" / "0.txt", "1 0.5 0.5 0.2 0.4\n\n")
    write(tmp_path / "labels" / "val" / "0.txt", "0 0.1 0.1 0.2 0.2\n7 0.5 0.5 0 0.1\n")
    write(tmp_path / file, names)
    first, second = read_photographs(tmp_path)
    assert first.name == "images/train/0.png"
    np.testing.assert_allclose(first.boxes, [(40, 15, 20, 20)], rtol=1e-5)
    assert (first.labels, second.labels) == (("mask",), ("open", "7"))
    assert second.ignored.tolist() == [False, True], "a box without an area"


def test_wider_lists_faces_under_the_name_of_their_image(tmp_path):
    for name in ("0--Parade/one.jpg", "0--Parade/empty.jpg"):
        draw(tmp_path / "WIDER_val" / "images" / name)
    write(
        tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt",
        "0--Parade/one.jpg\n2\n10 5 20 25 0 0 0 0 0 1 \n1 2 3 4 2 0 0 1 0 0\n"
        "0--Parade/empty.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n0--Parade/absent.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n",
    )
    one, empty = read_photographs(tmp_path)
    np.testing.assert_allclose(one.boxes, [(10, 5, 20, 25), (1, 2, 3, 4)])
    assert (one.labels, one.ignored.tolist()) == (("profile or bent", "frontal"), [False, True])
    assert (len(empty.boxes), empty.boxed) == (0, True)


def test_images_without_lists_have_no_boxes(tmp_path):
    draw(tmp_path / "a.png")
    (found,) = read_photographs(tmp_path)
    assert (len(found.boxes), found.boxed) == (0, False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", "<annotation><object><bndbox/></object></annotation>", "not a list of boxes as Pascal VOC has it"),
        ("a.xml", "no xml", "not a list of boxes as Pascal VOC has it"),
        ("a.txt", "0 0.5 0.5 0.1 0.1\nface 1 2\n", "line 2 is no class and box as YOLO has them: face 1 2"),
        ("val_bbx_gt.txt", "a.png\n2\n1 2 3 4\n", "a.png: not a list as WIDER FACE has it"),
        ("val_bbx_gt.txt", "a.png\nmany\n", "a.png: not a list as WIDER FACE has it"),
    ],
)
def test_a_damaged_list_is_named_with_what_is_wrong(tmp_path, name, text, message):
    draw(tmp_path / "a.png")
    write(tmp_path / name, text)
    with pytest.raises(ValueError, match=rf"{name}: .*{message}|{name}: {message}"):
        read_photographs(tmp_path)


def test_a_folder_that_is_not_there_or_has_no_image_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_photographs(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no JPEG, PNG, BMP or WebP image"):
        read_photographs(tmp_path)
