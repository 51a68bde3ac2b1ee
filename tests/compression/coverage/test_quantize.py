"""The table of what is covered, rows of models that are not, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tf_keras

from slimcam.compression.coverage import quantize as coverage
from slimcam.compression.coverage.applications import constructors
from slimcam.compression.coverage.quantize import Row, quantized, table


def test_a_model_that_fails_has_rows_that_say_why() -> None:
    rows = quantized("NoSuchModel")
    assert [row.scheme for row in rows] == ["ptq", "qat"]
    assert all(row.error.startswith("ValueError: no model of that name") for row in rows)
    assert rows[0].delegated_share is None


@pytest.mark.parametrize("name", ["two inputs and outputs", "siamese", "SE of operations"])
def test_an_example_is_quantized_and_followed_by_its_file(name: str) -> None:
    row = quantized(name, schemes=["qat"])[0]
    assert (row.error, row.delegated_share, row.left_out) == ("", 1.0, [])
    assert row.file_steps is not None
    assert row.file_steps < 0.6
    assert row.compared is not None
    assert row.compared > 0


def test_recurrent_layers_are_refused_by_name() -> None:
    assert ["'lstm' (LSTM)" in row.error for row in quantized("LSTM")] == [True, True]


def test_table_names_what_is_left_out() -> None:
    row = Row("A", 0.5, "qat", 1e-6, 0.5, 3, ["1 SOFTMAX", "2 SOFTMAX"], 40.1, 20.2, "c", 0.3, 3, 3.0)
    assert table([row]).splitlines()[-1] == ("| A | 50% | qat | 1 of 3 | 2 SOFTMAX | 40.1 (20.2) | 0.3 | 1e-06 | 3.0 |")
    assert "| B | 0% | qat | - | no | | | | |" in table([Row("B", error="no")])


def test_every_constructor_of_keras_is_covered() -> None:
    assert {"ResNet50", "NASNetMobile", "ConvNeXtTiny"} <= set(constructors())


def test_rows_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, float, str]] = []

    def made_up(name: str, ratio: float, schemes: list[str]) -> list[Row]:
        made.extend((name, ratio, scheme) for scheme in schemes)
        return [Row(name, ratio, scheme, error="no") for scheme in schemes]

    monkeypatch.setattr(coverage, "_in_process", made_up)
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([asdict(Row("A", 0.0, "ptq", error="no"))]))
    command = ["--only", "A", "--ratios", "0,0.5", "--json", str(file)]
    coverage.main("quantize", command)
    assert made == [("A", 0.0, "qat"), ("A", 0.5, "ptq"), ("A", 0.5, "qat")]
    coverage.main("quantize", command)
    assert len(made) == 3
    coverage.main("quantize", [*command, "--retry"])
    assert len(made) == 7
    assert len(json.loads(file.read_text())) == 4


def test_gradients_whose_squares_overflow_leave_the_weights_finite() -> None:
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, use_bias=False, input_shape=(3,))])
    model.set_weights([np.full((3, 2), 1e20, np.float32)])

    coverage._train(model, np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32))

    assert np.isfinite(model.get_weights()[0]).all()
