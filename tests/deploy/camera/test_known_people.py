from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.camera.known_people import KnownPeople, LooksLike
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Frame, Sighting, View
from slimcam.deploy.vision.quality import QualityConfig

ROOT = Path(__file__).resolve().parents[3]


def view(number: int = 0, quality_issues: tuple[str, ...] = (), **milliseconds: float) -> View:
    frame = Frame(np.zeros((240, 320, 3), np.uint8), number, number / 10, time.monotonic(), lost=2)
    points = np.array([(120, 100), (160, 100), (140, 120), (125, 145), (155, 145)], np.float32)
    return View(frame, (Sighting(1, points, 0.9, quality_issues, None),), (), milliseconds)


def test_who_is_enrolled_from_a_view_is_known_within_a_second(tmp_path: Path) -> None:
    recognizer = Recognizer(ROOT / "deploy/models/recognizer", check=False)
    quality = QualityConfig(min_brightness=0, min_contrast=0, min_sharpness=0)
    path = tmp_path / "g/gallery.db"
    known = KnownPeople(recognizer, str(path), str(tmp_path / "k/key"), 0.001, 0.05, quality)
    assert known.matcher is None
    assert known.open() is None
    assert not path.exists()
    person = known.enroll(view(), 1, "Ada", "herself")
    with pytest.raises(ValueError, match="not in the picture any more"):
        known.enroll(view(), 2, "Ada", "herself")
    strict = KnownPeople(
        recognizer, str(tmp_path / "g/other.db"), str(tmp_path / "k/key2"), 0.001, 0.05, QualityConfig()
    )
    # What counts is the view itself, and not what was measured shortly before.
    with pytest.raises(ValueError, match="dark"):
        strict.enroll(view(), 1, "Ada", "herself")
    time.sleep(1.1)
    assert known.changed()
    assert known.matcher is not None
    assert not known.changed()
    assert known.enroll(view(), 1, "Ada", "herself").id == person.id
    with known.open() as gallery:
        assert [(one.name, one.templates) for one in gallery.people()] == [("Ada", 2)]
    # The same face under a second name is asked for, and added to who is there, or enrolled as another person.
    with pytest.raises(LooksLike, match=r"looks like Ada \(1\.00\): is it the same person\?") as asked:
        known.enroll(view(), 1, "Adah", "herself")
    assert [one.id for one, _ in asked.value.people] == [person.id]
    assert known.enroll(view(), 1, "Adah", "herself", person.id).templates == 3
    twin = known.enroll(view(), 1, "Adah", "herself", "new")
    with known.open() as gallery:
        assert [(one.name, one.templates) for one in gallery.people()] == [("Ada", 3), ("Adah", 1)]
        gallery.forget(twin.id)
    with pytest.raises(ValueError, match="not in the gallery any more"):
        known.enroll(view(), 1, "Adah", "herself", twin.id)
    path.write_text("no gallery")
    time.sleep(1.1)
    assert not known.changed()
    assert known.matcher is not None
    path.unlink()
    time.sleep(1.1)
    assert known.changed()
    assert known.matcher is None
    known.close()
