"""The command that measures how fast faces are loaded: every set and number of workers gets a row."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimcam.training.tools.convert_faces import convert
from slimcam.training.tools.loading import main


@pytest.fixture
def sets(tmp_path):
    for person in range(3):
        for number in range(3):
            path = tmp_path / "folders" / str(person) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (112, 112, 3)).astype(np.uint8))
    for form in ("records", "shards"):
        convert(tmp_path / "folders", tmp_path / form, form)
    return [str(tmp_path / name) for name in ("folders", "records", "shards")]


def test_every_set_is_opened_loaded_and_trained_on(sets, capsys):
    main([*sets, "--workers", "0", "1", "--batch", "4", "--size", "32", "--width", "4", "--seconds", "0.1"])
    opened, speeds = (block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n"))
    assert [line.split()[0] for line in opened[1:]] == ["folders", "records", "shards"]
    assert len(speeds) == 2 + 2 * 4
    assert all(float(line.split()[-3]) > 0 and float(line.split()[-4]) > 0 for line in speeds[2:])


def test_a_set_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="loading: data: no folder"):
        main([str(tmp_path / "none")])
