"""Errors of groups of people, at one threshold for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.training.data.recognition.faces import FaceSet, Verification
from slimcam.training.data.recognition.folders import FileImages
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.tasks.recognition.breakdown import read_attributes, values_of
from slimcam.training.tasks.recognition.scorecard import scorecard

PEOPLE, PHOTOS = 40, 6
LABELS = np.repeat(np.arange(PEOPLE), PHOTOS).astype(np.int32)
NAMES = tuple(f"person{number:02d}" for number in range(PEOPLE))


@pytest.fixture
def faces() -> Verification:
    files = FileImages([Path(NAMES[label], f"{number % PHOTOS}.jpg") for number, label in enumerate(LABELS)])
    return Verification(FaceSet(files, LABELS, NAMES), sample_pairs(LABELS, 1000))


def write(path: Path, rows: dict[str, str], name: str = "age") -> Path:
    path.write_text(f"who,{name}\n" + "".join(f"{who},{value}\n" for who, value in rows.items()))
    return path


def test_a_group_whose_faces_are_harder_has_more_errors_at_the_common_threshold(faces, tmp_path):
    rng = np.random.default_rng(0)
    old = LABELS >= PEOPLE // 2
    # The old have a direction in common, and their photos differ more.
    centers = rng.normal(size=(PEOPLE, 16))
    centers[PEOPLE // 2 :, 0] += 4
    embeddings = centers[LABELS] + np.where(old, 1.0, 0.3)[:, None] * rng.normal(size=(len(LABELS), 16))
    ages = {name: "old" if number >= PEOPLE // 2 else "young" for number, name in enumerate(NAMES)}
    values = values_of(faces, read_attributes(write(tmp_path / "ages.csv", ages)))
    card = scorecard(embeddings.astype(np.float32), faces, attributes=values)
    groups = {group.value: group for group in card.groups}
    assert list(groups) == ["old", "young"]
    assert groups["old"].far > 3 * float(card.groups_far) > groups["young"].far
    assert groups["old"].tar < groups["young"].tar
    assert groups["old"].accuracy < groups["young"].accuracy
    assert groups["old"].images == groups["young"].images == PEOPLE * PHOTOS // 2
    assert groups["old"].impostors == 20 * 19 // 2 * PHOTOS**2


def test_attributes_are_of_people_or_of_single_images(faces, tmp_path):
    rows = {"person00": "a", "person01/3.jpg": "b"}
    (values,) = values_of(faces, read_attributes(write(tmp_path / "some.csv", rows))).values()
    assert set(values[:PHOTOS]) == {"a"}
    assert values[PHOTOS : 2 * PHOTOS].tolist() == ["", "", "", "b", "", ""]


def test_a_file_about_others_is_refused(faces, tmp_path):
    with pytest.raises(ValueError, match="none of the people or images is in the file, which names for example 'Ada'"):
        values_of(faces, read_attributes(write(tmp_path / "others.csv", {"Ada": "old"})))
    (tmp_path / "one.csv").write_text("who\nAda\n")
    with pytest.raises(ValueError, match="a column for each attribute"):
        read_attributes(tmp_path / "one.csv")
