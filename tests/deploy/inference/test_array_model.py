"""Models of several inputs and outputs, of any rank: in the runtime, in bundles, timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.inference.bundle import Bundle, InputSpec, load_bundle, write_bundle
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.manifest import ArraySpec
from slimcam.deploy.inference.model import ArrayModel, BundledModel
from slimcam.deploy.latency.host import HostConfig, measure_on_host

COUNT = 3


@pytest.fixture(scope="module")
def network() -> Any:
    """A row of four numbers and a picture in; a number and a series out."""
    import keras

    keras.utils.set_random_seed(0)
    row, picture = keras.Input((4,), 1, name="row"), keras.Input((6, 6, 1), 1, name="picture")
    features = keras.layers.Flatten()(keras.layers.Conv2D(3, 3)(picture))
    joined = keras.layers.Concatenate()([row, features])
    series = keras.layers.Reshape((5, 2))(keras.layers.Dense(10)(joined))
    return keras.Model([row, picture], [keras.layers.Dense(1)(joined), series])


@pytest.fixture(scope="module")
def content(network: Any) -> bytes:
    from slimcam.compression.export.tflite import float_tflite

    return float_tflite(network)


@pytest.fixture
def examples() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {"row": rng.normal(size=(COUNT, 4)), "picture": rng.normal(size=(COUNT, 6, 6, 1))}


@pytest.fixture
def bundle(tmp_path: Path, network: Any, content: bytes, examples: dict[str, Any]) -> Bundle:
    given = [network([examples["row"][i : i + 1], examples["picture"][i : i + 1]]) for i in range(COUNT)]
    return write_bundle(
        tmp_path / "bundle",
        name="pair",
        task="pairs",
        model=content,
        input=None,
        golden_input=examples,
        golden_output={
            "number": np.concatenate([each[0] for each in given]),
            "series": np.concatenate([each[1] for each in given]),
        },
        provenance={},
        license="none",
        card="",
    )


def test_a_bundle_states_what_its_model_takes_and_gives(bundle: Bundle) -> None:
    read = load_bundle(bundle.path)
    assert read.inputs.specs == (ArraySpec("row", (4,)), ArraySpec("picture", (6, 6, 1)))
    assert read.outputs.specs == (ArraySpec("number", (1,)), ArraySpec("series", (5, 2)))
    with pytest.raises(BundleError, match="takes no image but row, picture"):
        BundledModel(bundle)


def test_arrays_go_in_and_out_by_the_order_of_the_bundle(bundle: Bundle, examples: dict[str, Any]) -> None:
    model = ArrayModel(bundle.path)
    number, series = model.run(*(array[1] for array in examples.values()))
    np.testing.assert_allclose(number, bundle.outputs.golden[0][1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(series, bundle.outputs.golden[1][1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"the model takes arrays of \[\(4,\), \(6, 6, 1\)\]; got \[\(4,\)\]"):
        model.run(examples["row"][0])


def test_another_output_than_the_golden_one_is_refused(bundle: Bundle, content: bytes, tmp_path: Path) -> None:
    wrong = write_bundle(
        tmp_path / "wrong",
        name="wrong",
        task="pairs",
        model=content,
        input=None,
        golden_input=bundle.inputs.by_name(),
        golden_output={"number": bundle.outputs.golden[0], "series": -bundle.outputs.golden[1]},
        provenance={},
        license="none",
        card="",
    )
    with pytest.raises(BundleError, match=r"golden example \d gives another output"):
        ArrayModel(wrong)


def test_a_bundle_of_an_image_is_none_of_arrays(make_bundle: Any) -> None:
    with pytest.raises(BundleError, match="takes an image; open it as a BundledModel"):
        ArrayModel(make_bundle())


def test_who_needs_one_input_says_which_there_are(content: bytes) -> None:
    interpreter = Interpreter(content)
    assert [tensor.shape for tensor in interpreter.inputs] == [(1, 4), (1, 6, 6, 1)]
    with pytest.raises(ValueError, match="a model with one input is needed here, it has 2"):
        _ = interpreter.input


def test_a_model_of_several_inputs_is_timed(bundle: Bundle) -> None:
    (record,) = measure_on_host({"pair": bundle.path}, HostConfig(samples=3, warmup=1, seconds=0.01))
    assert record.latency_ms.p50 > 0


def test_golden_arrays_of_unequal_number_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as many examples each"):
        write_bundle(
            tmp_path / "bundle",
            name="pair",
            task="pairs",
            model=content,
            input=None,
            golden_input={"row": np.zeros((2, 4))},
            golden_output={"number": np.zeros((3, 1), np.float32)},
            provenance={},
            license="none",
            card="",
        )


def test_the_spec_of_an_image_needs_a_size() -> None:
    with pytest.raises(ValueError, match="a size of 1 or more"):
        InputSpec(0, 32)
