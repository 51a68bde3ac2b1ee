from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.inference.bundle import BUNDLED
from slimcam.deploy.latency.request import model_file, thread_counts


@pytest.mark.parametrize("name", list(BUNDLED))
def test_models_that_come_with_slimcam_go_by_their_names_where_no_file_has_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_file(Path(name)) == BUNDLED[name] / "model.tflite"
    Path(name).write_bytes(b"a model of one's own")
    assert model_file(Path(name)) == Path(name)


@pytest.mark.parametrize("threads", ["x", [], [1, 1], [1, "2"], 1.5, None, True])
def test_threads_are_numbers(threads: object) -> None:
    with pytest.raises(ValueError, match="threads is a number or a list of different ones"):
        thread_counts(threads)
