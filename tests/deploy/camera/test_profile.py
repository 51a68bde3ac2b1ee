from __future__ import annotations

import pytest

from slimcam.deploy.camera import profile as profiling
from slimcam.deploy.camera.profile import NETWORKS, REST, WARMUP, profile
from slimcam.deploy.vision import detector
from slimcam.training.tools.demo_clip import ClipConfig, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder, ClipConfig(seconds=3, people=1, unknown=0, seed=28))
    return str(folder / "clip.mp4")


def test_each_part_is_timed_and_none_after_it(clip: str) -> None:
    letterbox = detector.letterbox
    table = profile(clip, rounds=1)
    lines = table.splitlines()
    counts = {line.split("  ")[0]: int(line.split()[-1]) for line in lines[3 : lines.index("", 3)]}
    frames = int(table.split()[0])
    rare = {"quality of views", "recognizer's network", "alignment", "matching"}
    assert {name for name, count in counts.items() if count < frames} == rare
    assert all(0 < counts[name] < frames for name in rare)
    assert len(counts) == 13
    assert detector.letterbox is letterbox


def test_a_part_counts_with_its_quickest_time_and_what_is_in_no_part_is_the_rest() -> None:
    network, source = NETWORKS[0], profiling.SOURCE
    whole = {(11, network): [0.003, 0.002], (11, REST): [0.004, 0.005], (11, source): [0.1, 0.1]}
    parts = {
        (11, network): [0.003, 0.004],
        (11, "tracker"): [0.001, 0.003],
        (11, REST): [0.5, 0.6],
        (11, source): [1, 1],
    }
    whole |= {(12, part): [9.0, 9.0] for part in (network, REST, source)}  # of a frame that does not count
    lines = [" ".join(line.split()) for line in profiling._table(whole, parts, {11}, 2).splitlines()]
    assert "detector's network 2.000 33% 1" in lines
    assert "tracker 1.000 17% 1" in lines
    assert "everything else 3.000 50% 1" in lines
    assert "whole frame, without reading 6.000 100% 1" in lines
    assert "reading the frame 100.000 1" in lines
    assert lines[-2:] == [
        "outside of the networks, quickest times: 4.000 of 6.000 ms, 67%",
        "outside of the networks, median times: 4.500 of 7.000 ms, 64%",
    ]


def test_the_first_frames_do_not_count(clip: str) -> None:
    with pytest.raises(ValueError, match="none of its first 10 frames, after 10, shows 1 faces"):
        profile(clip, frames=WARMUP, rounds=1)
