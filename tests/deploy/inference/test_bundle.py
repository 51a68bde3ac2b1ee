from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.inference.bundle import RECOGNIZER, Bundle, InputSpec, add_evaluation, load_bundle
from slimcam.deploy.inference.manifest import ArraySpec, digest

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


def changed(folder: Path, **entries: Any) -> Path:
    """The bundle with other entries in its manifest, signed as a bundle of whoever made it would be."""
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest.pop("sha256")
    manifest |= entries
    (folder / "bundle.json").write_text(json.dumps({**manifest, "sha256": digest(manifest)}))
    return folder


@pytest.mark.parametrize(
    "entries",
    [
        {"name": 3},
        {"task": None},
        {"input": {"height": "32", "width": 32, "mean": 128.0, "scale": 128.0}},
        {"input": {"height": 32, "width": 32, "mean": 128.0, "scale": 0.0}},
        {"input": {"height": 32, "width": 32, "mean": math.inf, "scale": 1.0}},
        {"input": [32, 32]},
        {"inputs": [{"name": "a", "shape": [-1]}]},
        {"outputs": "none"},
        {"thresholds": {"0.1": "high"}},
        {"gates": {}},
        {"figures": []},
        {"provenance": 1},
        {"files": {"model.tflite": "", "golden.npz": "", "MODEL_CARD.md": "", "../other": ""}},
        {"files": None},
    ],
    ids=str,
)
def test_an_entry_of_another_type_is_one_line(make_bundle: Make, entries: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=rf"bundle\.json is not a bundle's \({next(iter(entries))}") as error:
        load_bundle(changed(make_bundle().path, **entries))
    assert "\n" not in str(error.value)


def test_nested_without_end_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match="truncated or not a bundle's"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"input": np.zeros((2, 16, 16, 3), np.uint8), "output": np.zeros((2, 8), np.float32)},
        {"input": np.zeros((2, 32, 32, 3), np.float32), "output": np.zeros((2, 8), np.float32)},
        {"input": np.zeros((2, 32, 32, 3), np.uint8), "output": np.zeros((1, 8), np.float32)},
        {"input": np.zeros((2, 32, 32, 3), np.uint8)},
        {"input": np.array("text"), "output": np.array("text")},
    ],
    ids=["another size", "no pixels", "another number", "no output", "text"],
)
def test_golden_arrays_that_do_not_fit_are_one_line(make_bundle: Make, arrays: dict[str, Any]) -> None:
    folder = make_bundle().path
    np.savez_compressed(folder / "golden.npz", **arrays)
    files = json.loads((folder / "bundle.json").read_text())["files"]
    with pytest.raises(BundleError, match=r"golden\.npz holds no golden arrays of this model") as error:
        load_bundle(changed(folder, files={**files, "golden.npz": file_sha256(folder / "golden.npz")}))
    assert "\n" not in str(error.value)


def test_golden_arrays_that_unpack_to_gigabytes_are_refused(make_bundle: Make) -> None:
    folder = make_bundle().path
    with (
        zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("input.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    files = json.loads((folder / "bundle.json").read_text())["files"]
    with pytest.raises(BundleError, match="its size"):
        load_bundle(changed(folder, files={**files, "golden.npz": file_sha256(folder / "golden.npz")}))


def test_a_bundle_of_an_earlier_version_states_its_image_and_output(make_bundle: Make) -> None:
    folder = make_bundle().path
    read = load_bundle(changed(folder, inputs=None, outputs=None))
    assert read.inputs.specs == (ArraySpec("image", (32, 32, 3)),)
    assert read.outputs.specs == (ArraySpec("output", (8,)),)
    assert load_bundle(RECOGNIZER).inputs.specs == (ArraySpec("image", (112, 112, 3)),)
