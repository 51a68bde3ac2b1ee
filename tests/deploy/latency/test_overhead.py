from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.latency.overhead import overhead


@pytest.fixture
def model_file(tmp_path: Path, float_model: bytes) -> Path:
    path = tmp_path / "dense.tflite"
    path.write_bytes(float_model)
    return path


def test_the_measuring_itself_can_be_weighed(model_file: Path) -> None:
    found = overhead(model_file, seconds=0.2)
    assert found.pairs >= 1
    assert 0 < found.low <= found.ratio <= found.high
    assert 0 < found.clock_ns < 100_000
