from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def camera(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "slimcam.deploy.apps.camera",
            *words,
            f"gallery={home / 'g/db'}",
            f"key={home / 'k/key'}",
        ],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("target=snapdragon_625",), "an emulated device has no camera"),
        (("target=snapdragon_625", "target.clock_mhz=0"), "clock"),
        (("target=host",), "on an emulated target, such as target=snapdragon_625"),
        (("target=snapdragon_626",), "did you mean 'snapdragon_625'?"),
    ],
)
def test_a_target_hands_over_to_the_emulator_and_mistakes_are_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = camera(tmp_path, "source=nowhere.mp4", *words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("slimcam-camera: ")
    assert says in lines[0]
