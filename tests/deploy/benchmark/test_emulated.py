"""The emulated target as far as it goes without an emulator: a model whose profile is in the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.benchmark.a53.emulator import stored_profile
from slimcam.deploy.benchmark.a53.profile import Profile, save_profile
from slimcam.deploy.benchmark.a53.sysroot import Sysroot, make_sysroot
from slimcam.deploy.benchmark.emulated import EmulatedConfig, predict_models
from slimcam.deploy.latency.record import read_records, write_records


@pytest.fixture
def cache(tmp_path: Path, profiles: dict[str, Profile], int8_model: bytes) -> Path:
    """A cache with an emulated device that is empty and the profile of `slim.tflite`."""
    from slimcam.deploy.benchmark.a53.sysroot import _digest

    (tmp_path / "slim.tflite").write_bytes(int8_model)
    (tmp_path / "a53" / f"sysroot-{_digest()}").mkdir(parents=True)
    sysroot: Sysroot = make_sysroot(tmp_path)
    save_profile(profiles["mobilenet_v3_small_int8"], stored_profile(sysroot, tmp_path / "slim.tflite"))
    return tmp_path


def predict(cache: Path, **changes: Any) -> Any:
    config = EmulatedConfig(cache=str(cache), parity_check=False, **changes)
    (record,) = predict_models({"slim": cache / "slim.tflite"}, config)
    return record


def test_a_prediction_is_recorded_as_one(cache: Path) -> None:
    record = predict(cache)
    assert (record.predicted, record.latency_ms, record.start, record.samples) == (True, None, None, 0)
    prediction = record.prediction
    assert prediction.roof_ms < prediction.ms.low < prediction.ms.value < prediction.ms.high
    assert [estimate.threads for estimate in prediction.threads] == [2, 4, 8]
    assert all(estimate.low < estimate.high for estimate in prediction.threads)
    assert record.execution.operators == record.execution.delegated_operators + len(record.execution.left_out)
    assert "HARD_SWISH" in record.validity[0]
    write_records([record], cache / "records.json")
    assert read_records(cache / "records.json") == [record]


def test_operators_add_up_to_the_model(cache: Path) -> None:
    prediction = predict(cache, operators=True).prediction
    assert sum(each.ms for each in prediction.operators) == pytest.approx(prediction.ms.value, rel=1e-3)
    assert sum(each.instructions for each in prediction.operators) == prediction.instructions
    assert any("cortex_a53" in kernel for each in prediction.operators for kernel in each.kernels)


def test_a_slower_chip_is_slower(cache: Path) -> None:
    slow = predict(cache, device="Snapdragon 410", clock_mhz=1200.0, cores=4, memory_gbs=4.264, threads=[1, 4])
    assert slow.prediction.ms.value > 1.5 * predict(cache).prediction.ms.value


def test_a_cost_table_is_written_on_request(cache: Path) -> None:
    predict(cache, cost_table=str(cache / "costs.json"))
    table = json.loads((cache / "costs.json").read_text())
    assert table["device"] == "Snapdragon 625"
    assert {layer["kind"] for layer in table["layers"]} == {"CONV_2D", "DEPTHWISE_CONV_2D"}
    assert 0 < table["fit_error"]["mean"] < 0.2


def test_a_cost_table_of_the_first_model_tells_of_the_others(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models = {"dense": cache / "slim.tflite", "pruned": cache / "slim.tflite"}
    config = EmulatedConfig(cache=str(cache), parity_check=False, threads=[1], cost_table=str(cache / "costs.json"))
    whole = predict_models(models, config)[1].prediction
    line = next(line for line in capfd.readouterr().err.splitlines() if "by the cost table" in line)
    assert whole is not None
    assert line.startswith("benchmark: pruned: ")
    assert float(line.split()[2]) == pytest.approx(whole.ms.value, rel=0.1, abs=0.1)


def test_impossible_requests_are_one_line(cache: Path) -> None:
    with pytest.raises(ValueError, match="has 8 cores; ask for 1 to 8 threads"):
        EmulatedConfig(threads=[1, 16])
    with pytest.raises(ValueError, match="a device needs a clock"):
        EmulatedConfig(clock_mhz=0.0)
    with pytest.raises(ValueError, match="no models"):
        predict_models({}, EmulatedConfig())
    with pytest.raises(FileNotFoundError, match=r"gone\.tflite"):
        predict_models({"gone": cache / "gone.tflite"}, EmulatedConfig())
