"""The table of schemes, from what evaluation and benchmark tell of their files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slimcam.deploy.latency.record import Condition, Execution, Latency, Machine, MeasuredModel, Record
from slimcam.pipeline.stages.artifacts import EVALUATION
from slimcam.pipeline.tools import compare_schemes

OVERRIDES = ["experiment=demo", "quantize.calibration_images=64"]


def record(name: str, ms: float, delegated: int) -> Record:
    return Record(
        target="host",
        model=MeasuredModel(name, "0" * 64, round(1e6 * ms)),
        execution=Execution("ai-edge-litert", "2.3.0", "XNNPACK", delegated, 20, [], 1),
        machine=Machine("AMD EPYC", "Linux x86_64", 2, [0, 1]),
        before=Condition(None, None, None, 1.2),
        after=Condition(None, None, None, 1.4),
        warmup=10,
        samples=331,
        seconds=10.0,
        interleaved=[],
        latency_ms=Latency(ms, ms, ms, ms, ms, ms),
        start=None,
        validity=[],
        version="0.1.0",
        commit=None,
        time_utc="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stages, benchmark and evaluation that answer at once; the configurations that were run."""
    configs: list[Any] = []

    def run(config: Any) -> dict[str, Path]:
        configs.append(config)
        place = tmp_path / config.quantize.scheme
        place.mkdir()
        (place / "stage.json").write_text('{"seconds": 90.0}')
        return {"quantize": place, "convert": place}

    def measure(folders: dict[str, Path], _: Any) -> list[Record]:
        return [record(name, 4.0 / number, 20 - number) for number, name in enumerate(folders, 1)]

    def evaluate(folders: dict[str, Path], *, test_alone: bool) -> Any:
        assert test_alone
        change = {"difference": -0.01, "low": -0.02, "high": 0.0}
        return SimpleNamespace(
            accuracies=dict.fromkeys(folders, 0.9), changes={name: change for name in folders if name != "dense"}
        )

    monkeypatch.setattr(compare_schemes, "run", run)
    monkeypatch.setattr(compare_schemes, "measure_on_target", measure)
    monkeypatch.setattr(compare_schemes, "task_of", lambda _: SimpleNamespace(evaluate=evaluate))
    return configs


def test_each_scheme_has_a_row_beside_the_dense_and_the_pruned_model(made: list[Any]) -> None:
    rows = compare_schemes.compare(["ptq_int8", "float16"], OVERRIDES)
    lines = compare_schemes.table(rows).splitlines()
    assert lines[2] == "| dense | 90.00 % | – | 4.00 | 1.00x | 19 of 20 | – |"
    assert lines[4] == "| ptq_int8 | 90.00 % | -1.00 (-2.00 to 0.00) | 1.33 | 3.00x | 17 of 20 | 1.5 |"
    assert [row.name for row in rows] == ["dense", "pruned", "ptq_int8", "float16"]
    assert {config.quantize.calibration_images for config in made} == {64}


def test_options_of_one_scheme_go_with_its_name(made: list[Any]) -> None:
    compare_schemes.compare(["ptq_int8", "case_study+quantize.fit.learning_rate=1.0e-4"], OVERRIDES)
    assert [config.quantize.fit.learning_rate for config in made] == [0.1, 1e-4]


def test_what_cannot_be_run_ends_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        compare_schemes.main(["--schemes", "int3", "--json", str(tmp_path / EVALUATION), "experiment=demo"])
    assert str(ended.value).startswith("compare_schemes: ")
    assert "int3" in str(ended.value)
    assert capsys.readouterr().out == ""
