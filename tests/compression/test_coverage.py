"""The table of what is covered, and rows of models that are not."""

from __future__ import annotations

from slimcam.compression.coverage import Row, constructors, quantized, table


def test_a_model_that_fails_has_a_row_that_says_why() -> None:
    row = quantized("NoSuchModel")
    assert row.error.startswith("AttributeError: ")
    assert row.delegated_share is None


def test_table_names_what_is_left_out() -> None:
    row = Row("A", 0.5, 1e-6, 0.5, 2, ["1 SOFTMAX"], 40.1, 20.2, 3.0)
    assert table([row]).splitlines()[-1] == "| A | 50% | 1 of 2 | 1 SOFTMAX | 40.1 (20.2) | 1e-06 | 3.0 |"
    assert "| B | 0% | - | no | | | |" in table([Row("B", error="no")])


def test_every_constructor_of_keras_is_covered() -> None:
    assert {"ResNet50", "NASNetMobile", "ConvNeXtTiny"} <= set(constructors())
