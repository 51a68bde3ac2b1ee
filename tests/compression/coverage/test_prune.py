"""Rows of the coverage of pruning: what is frozen and why, and that they go on where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import pytest

from slimcam.compression.coverage import __main__ as command
from slimcam.compression.coverage import prune as coverage
from slimcam.compression.coverage.prune import Row, pruned, table

L = keras.layers


def test_frozen_channels_are_counted_with_the_reason_and_those_of_the_output_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(24, 1)(L.Softmax(name="mix")(L.Conv2D(8, 1)(inputs)))
    network = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))
    monkeypatch.setattr(coverage, "_built", lambda _name: network)

    row = pruned("any")

    assert (row.error, row.channels, row.frozen_share) == ("", 32, 0.25)
    assert row.frozen_by == {"read by mix: it mixes channels": 8}
    assert row.cut_vs_mask is not None
    assert row.cut_vs_mask < 1e-4
    assert row.parameters == (3 * 8 + 8 + 8 * 24 + 24 + 24 * 5 + 5, 3 * 8 + 8 + 8 * 8 + 8 + 8 * 5 + 5)


def test_an_unknown_model_has_a_row_that_says_so() -> None:
    assert "keras.applications has no ResNet5" in pruned("ResNet5").error
    assert "ResNet50" in pruned("ResNet5").error


def test_rows_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def made_up(name: str) -> Any:
        made.append(name)
        return Row(name, (20_000_000, 3_000_000), (4_000_000_000, 500_000_000), 1000, 0.0, {}, 2e-7, 1.0)

    monkeypatch.setattr(coverage, "_in_process", made_up)
    file = tmp_path / "rows.json"
    command.main(["prune", "--only", "A", "--json", str(file)])
    command.main(["prune", "--only", "A,B", "--json", str(file)])
    assert made == ["A", "B"]
    assert [row["model"] for row in json.loads(file.read_text())] == ["A", "B"]
    assert table([made_up("C")]).endswith("| C | 20.00 -> 3.00 | 4.000 -> 0.500 | 0.0% |  | 2e-07 | 1.0 |")
