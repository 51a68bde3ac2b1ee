from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.cost_table import make_cost_table, read_cost_table, write_cost_table
from slimcam.deploy.benchmark.a53.device import Device
from slimcam.deploy.benchmark.a53.latency import predict_ms, read_constants
from slimcam.deploy.benchmark.a53.profile import Profile

DEVICE = Device("Snapdragon 625", 2000.0, 8, 7.464)
CONSTANTS = read_constants()


@pytest.mark.parametrize("model", ["resnet50_int8", "mobilenet_v2_fp32"])
def test_the_table_of_a_model_adds_up_to_the_model(profiles: dict[str, Profile], model: str) -> None:
    table = make_cost_table(profiles[model], "sha", DEVICE, CONSTANTS)
    whole = predict_ms(profiles[model], DEVICE, CONSTANTS)
    assert table.estimate_ms(profiles[model]) == pytest.approx(whole, rel=0.05)


def test_fewer_channels_never_cost_more(profiles: dict[str, Profile]) -> None:
    table = make_cost_table(profiles["resnet50_int8"], "sha", DEVICE, CONSTANTS)
    for layer in table.layers:
        assert layer.outputs[0] == 16
        assert all(row == sorted(row) for row in layer.microseconds)
        columns = zip(*layer.microseconds, strict=True)
        assert all(list(column) == sorted(column) for column in columns)


def test_outputs_cost_whole_tiles_and_inputs_are_linear(profiles: dict[str, Profile]) -> None:
    layer = make_cost_table(profiles["resnet50_int8"], "sha", DEVICE, CONSTANTS).layers[5]
    assert layer.tile == 16
    assert layer.at(16, 17) == layer.at(16, 24) == layer.at(16, 32) > layer.at(16, 16) == layer.at(16, 8)
    assert layer.at(24, 16) == pytest.approx((layer.at(16, 16) + layer.at(32, 16)) / 2)


def test_a_table_is_read_back_as_it_was(tmp_path: Path, profiles: dict[str, Profile]) -> None:
    table = make_cost_table(profiles["mobilenet_v3_small_int8"], "sha", DEVICE, CONSTANTS)
    write_cost_table(table, tmp_path / "costs.json")
    assert read_cost_table(tmp_path / "costs.json") == table
    (tmp_path / "costs.json").write_text("{}")
    with pytest.raises(ValueError, match="not a cost table"):
        read_cost_table(tmp_path / "costs.json")


def test_a_model_of_other_layers_is_refused(profiles: dict[str, Profile]) -> None:
    table = make_cost_table(profiles["mobilenet_v3_small_int8"], "sha", DEVICE, CONSTANTS)
    with pytest.raises(ValueError, match="other layers"):
        table.estimate_ms(profiles["mobilenet_v2_int8"])
