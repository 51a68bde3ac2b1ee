from __future__ import annotations

from pathlib import Path

import numpy as np

from slimcam.deploy.benchmark.a53.camera_trial import (
    COUNTED,
    Trial,
    read_gallery,
    stage_number,
    stage_of,
    write_gallery,
)
from slimcam.deploy.gallery.people import Person, Snapshot


def test_numbers_of_stages_tell_frame_and_stage() -> None:
    for frame in range(3):
        for name in COUNTED:
            assert stage_of(stage_number(frame, name)) == (frame, name)


def test_a_gallery_reaches_the_device_without_names(tmp_path: Path) -> None:
    people = tuple(Person(f"{i:032x}", f"Name {i}", 1, 0.0, None, "rendered") for i in range(2))
    embeddings = np.eye(3, 4, dtype=np.float32)
    write_gallery(Snapshot(1, people, embeddings, np.array([0, 0, 1])), tmp_path / "gallery.npz")
    assert b"Name" not in (tmp_path / "gallery.npz").read_bytes()
    found = read_gallery(tmp_path / "gallery.npz")
    assert [person.id for person in found.people] == [person.id for person in people]
    assert (found.embeddings == embeddings).all()
    assert found.owners.tolist() == [0, 0, 1]


def test_an_empty_gallery_reaches_it_too(tmp_path: Path) -> None:
    write_gallery(Snapshot(0, (), np.empty((0, 4), np.float32), np.empty(0, np.int64)), tmp_path / "gallery.npz")
    assert read_gallery(tmp_path / "gallery.npz").embeddings.shape == (0, 4)


def test_a_trial_is_read_back_as_it_was(tmp_path: Path) -> None:
    options = {"source": "clip.mp4", "detector": "d", "recognizer": "r", "threshold": 0.4, "margin": 0.05}
    trial = Trial(**options, frames=3, track={"buffer_seconds": 2.0})
    trial.write(tmp_path / "trial.json")
    assert Trial.read(tmp_path / "trial.json") == trial
