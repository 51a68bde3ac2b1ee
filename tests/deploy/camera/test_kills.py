"""`python -m tests.deploy.camera.kills CLIP 200` for more kills."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.people import Template
from slimcam.deploy.gallery.unknown_faces import UnknownFaces
from slimcam.training.tools.demo_clip import ClipConfig, write_clip
from tests.deploy.camera.kills import Change, Home

ROOT = Path(__file__).resolve().parents[3]
MODEL, SIZE = "0" * 64, 8
EMBEDDING = np.eye(SIZE, dtype=np.float32)[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """What a camera left: one person, one unknown face and two lines."""
    home, key = Home(tmp_path), tmp_path / "key/gallery.key"
    with Gallery(tmp_path / "data/gallery.db", MODEL, SIZE, key) as gallery:
        home.known[gallery.enroll("Ada", [Template(EMBEDDING, None, "page")], consent="drawn").id] = "Ada"
    faces = UnknownFaces(tmp_path / "data/unknown", key, MODEL, 7, 200)
    faces.keep(1.7e9, EMBEDDING, np.zeros((112, 112, 3), np.uint8))
    (tmp_path / "lines.jsonl").write_text(2 * '{"faces":[]}\n')
    return home


def test_a_camera_that_is_killed_leaves_nothing_by_half_and_starts_again(tmp_path: Path) -> None:
    write_clip(tmp_path, ClipConfig(seconds=3, people=1, unknown=1, seed=28))
    program = [sys.executable, "-m", "tests.deploy.camera.kills", str(tmp_path / "clip.mp4"), "3"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3 kills" in done.stdout


def test_what_is_whole_passes(home: Home) -> None:
    home.look(MODEL, SIZE)
    assert (home.counts["lines"], home.counts["most unknown faces"]) == (2, 1)


def test_a_change_that_was_not_answered_may_be_there_or_not(home: Home) -> None:
    (ada,) = home.known
    for name in ("Ada", "Grace"):
        home.asked = Change("rename", ada, "Grace")
        with Gallery(home.folder / "data/gallery.db", MODEL, SIZE, home.folder / "key/gallery.key") as gallery:
            gallery.rename(ada, name)
        home.look(MODEL, SIZE)
        assert home.known == {ada: name}


def test_what_is_there_by_half_is_found(home: Home) -> None:
    lines, gallery = home.folder / "lines.jsonl", home.folder / "data/gallery.db"
    (face,) = (home.folder / "data/unknown").iterdir()
    for path, reason in ((lines, "broke off"), (face, "of 1 unknown faces 0"), (gallery, "gallery")):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 5])
        with pytest.raises((AssertionError, ValueError), match=reason):
            home.look(MODEL, SIZE)
        path.write_bytes(whole)
    lines.write_text('{"faces":[\n')
    with pytest.raises(ValueError, match="Expecting"):
        home.look(MODEL, SIZE)


def test_what_was_acknowledged_and_is_gone_is_found(home: Home) -> None:
    home.known["1" * 32] = "Grace"
    with pytest.raises(AssertionError, match="acknowledged were"):
        home.look(MODEL, SIZE)
