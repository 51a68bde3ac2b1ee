from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.inference.bundle import Bundle, InputSpec, add_evaluation, load_bundle

Make = Callable[..., Bundle]


def test_what_is_written_is_read(make_bundle: Make, int8_model: bytes) -> None:
    made = make_bundle(thresholds={"0.001": 0.31}, gates=[{"name": "size", "passed": True}], figures={"lfw": 0.9})
    read = load_bundle(made.path)
    assert read.model.read_bytes() == int8_model
    assert read.card.read_text() == "# tiny\n"
    assert read.thresholds == {"0.001": 0.31}
    assert read.gates == [{"name": "size", "passed": True}]
    assert read.figures == {"lfw": 0.9}
    assert read.input == InputSpec(32, 32, 128.0, 128.0)
    assert read.golden_input.dtype == np.uint8
    assert np.array_equal(read.golden_output, made.golden_output)


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "MODEL_CARD.md", "bundle.json"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_file_is_named_in_one_line(make_bundle: Make, name: str, damage: str) -> None:
    folder = make_bundle().path
    content = (folder / name).read_bytes()
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "truncated":
        (folder / name).write_bytes(content[: len(content) // 2])
    else:
        (folder / name).write_bytes(content[:-8] + b"x" + content[-7:])
    with pytest.raises((BundleError, FileNotFoundError), match=name) as error:
        load_bundle(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_threshold_edited_by_hand_is_noticed(make_bundle: Make) -> None:
    folder = make_bundle(thresholds={"0.001": 0.31}).path
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace("0.31", "0.01"))
    with pytest.raises(BundleError, match=r"bundle\.json is altered"):
        load_bundle(folder)


def test_a_bundle_of_another_version_is_refused(make_bundle: Make) -> None:
    folder = make_bundle().path
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "schema_version": 3}))
    with pytest.raises(BundleError, match="schema version 3"):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"schema_version": 1}'])
def test_json_that_is_no_bundle_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json is truncated or not a bundle's"):
        load_bundle(tmp_path)


def test_a_folder_of_something_else_is_neither_read_nor_replaced(tmp_path: Path, make_bundle: Make) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"no bundle\.json"):
        load_bundle(tmp_path)
    with pytest.raises(FileExistsError, match="is not a bundle"):
        make_bundle(tmp_path)
    assert (tmp_path / "holiday.jpg").exists()


def test_a_second_bundle_replaces_the_first_and_leaves_nothing_else(tmp_path: Path, make_bundle: Make) -> None:
    make_bundle(tmp_path / "b", name="first")
    make_bundle(tmp_path / "b", name="second")
    assert load_bundle(tmp_path / "b").name == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_golden_arrays_must_fit(make_bundle: Make) -> None:
    with pytest.raises(ValueError, match="golden images must be"):
        make_bundle(golden_output=np.zeros((3, 8), np.float32))
    with pytest.raises(ValueError, match="golden images must be"):
        make_bundle(golden_input=np.zeros((2, 32, 32, 3), np.float32))


def test_other_bytes_than_a_model_are_refused(make_bundle: Make) -> None:
    with pytest.raises(ValueError, match="not a TFLite file"):
        make_bundle(model=b"PK\x03\x04 a zip file")


def test_an_evaluation_adds_the_figures_and_keeps_the_rest(tmp_path: Path, make_bundle: Make) -> None:
    draft = make_bundle()
    evaluated = add_evaluation(
        draft.path, tmp_path / "evaluated", thresholds={"0.01": 0.2}, gates=[], card="# done\n", figures={"a": 1}
    )
    assert (evaluated.sha256, evaluated.provenance) == (draft.sha256, draft.provenance)
    assert evaluated.thresholds == {"0.01": 0.2}
    assert evaluated.card.read_text() == "# done\n"
    assert load_bundle(draft.path).thresholds == {}
