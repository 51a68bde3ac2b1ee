from __future__ import annotations

import re

import pytest

from slimcam.deploy.camera import profile as profiling
from slimcam.deploy.camera.profile import WARMUP, profile
from slimcam.deploy.vision import detector
from slimcam.training.tools.demo_clip import ClipConfig, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder, ClipConfig(seconds=3, people=1, strangers=0, seed=28))
    return str(folder / "clip.mp4")


def test_the_parts_of_a_frame_add_up_to_all_of_it_and_nothing_stays_timed(clip: str) -> None:
    letterbox = detector.letterbox
    table = profile(clip, rounds=2)
    figures = {name: float(ms) for name, ms in re.findall(r"^([^\d\n]+?) +(-?\d+\.\d{3}) ", table, re.MULTILINE)}
    whole = figures.pop(profiling.WHOLE)
    del figures[profiling.SOURCE]
    assert {"detector's network", "recognizer's network", "letterboxing", "tracker", "matching"} <= figures.keys()
    assert sum(figures.values()) == pytest.approx(whole, abs=0.001 * len(figures))
    told = re.search(r"quickest times: (\S+) of (\S+) ms", table)
    assert told is not None
    networks = sum(figures[name] for name in profiling.NETWORKS)
    assert (float(told[1]), float(told[2])) == pytest.approx((whole - networks, whole), abs=0.002)
    assert detector.letterbox is letterbox


def test_the_first_frames_do_not_count(clip: str) -> None:
    with pytest.raises(ValueError, match="none of its first 10 frames, after 10, shows 1 faces"):
        profile(clip, frames=WARMUP, rounds=1)
