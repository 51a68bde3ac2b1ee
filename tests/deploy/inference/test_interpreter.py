from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.inference.interpreter import Interpreter


def test_delegation_is_counted_on_the_original_graph(int8_model: bytes, split_model: bytes, float_model: bytes) -> None:
    for whole in (int8_model, float_model):
        delegation = Interpreter(whole).delegation()
        assert (delegation.delegate, delegation.delegated, delegation.total) == ("XNNPACK", 6, 6)
        assert delegation.complete
        assert delegation.left_out == ()
    split = Interpreter(split_model).delegation()
    assert (split.delegated, split.total, split.left_out) == (6, 7, ("3 AVERAGE_POOL_2D",))


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused_in_one_line(tmp_path: Path, int8_model: bytes, share: float) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(int8_model[: int(share * len(int8_model))])
    with pytest.raises(ValueError, match=r"cut\.tflite: not a whole TFLite model") as error:
        Interpreter(path)
    assert "\n" not in str(error.value)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.tflite"):
        Interpreter(tmp_path / "gone.tflite")
