from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.benchmark.targets import TARGETS, measure_on_target
from slimcam.deploy.inference.bundle import BUNDLED


@pytest.mark.parametrize("target", list(TARGETS))
def test_models_that_come_with_slimcam_go_by_their_names_where_no_file_has_them(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, Path]] = []
    config, _ = TARGETS[target]

    def measure(models: Any, _: object) -> list[Any]:
        measured.append(models)
        return []

    monkeypatch.setitem(TARGETS, target, (config, measure))
    monkeypatch.chdir(tmp_path)
    models = {name: Path(name) for name in BUNDLED}
    measure_on_target(models, config())
    Path("recognizer").write_bytes(b"a model of one's own")
    measure_on_target(models, config())
    assert measured == [BUNDLED, {**BUNDLED, "recognizer": Path("recognizer")}]
