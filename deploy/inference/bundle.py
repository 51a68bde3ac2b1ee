"""The model bundle: a folder with all that a device needs to run a model as it was tested.

model.tflite    batch 1
golden.npz      images or other inputs, and what the model gave for them when the bundle was made
MODEL_CARD.md   for people
bundle.json     everything else, with the SHA-256 of the three files and of itself
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.files import atomic_folder, file_sha256
from slimcam.deploy.inference.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    SCHEMA_VERSION,
    Arrays,
    InputSpec,
    digest,
    golden_files,
    image_spec,
    named,
    read_golden,
    read_manifest,
    stated,
)

__all__ = [
    "CARD",
    "DETECTOR",
    "GOLDEN",
    "MANIFEST",
    "MODEL",
    "RECOGNIZER",
    "Bundle",
    "InputSpec",
    "add_evaluation",
    "is_bundle",
    "load_bundle",
    "place_of",
    "write_bundle",
]

BUNDLED = {name: Path(__file__).parent.parent / "models" / name for name in ("recognizer", "detector")}
"""The bundles that come with slimcam, by name."""

RECOGNIZER, DETECTOR = BUNDLED["recognizer"], BUNDLED["detector"]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are present and unaltered.

    Attributes:
        path: Folder of the bundle.
        name: Name of the model.
        task: Task of the model: `recognition`, `detection` or `classification`.
        image: Size and preprocessing of the model's input; `None` for a model that takes other arrays, or several.
        inputs: What the model takes: an image as uint8, other arrays as float32.
        outputs: What it gives, as float32.
        thresholds: scores at or above which the answer is yes, by the rate of errors that each allows as text: for a
            recognizer `"0.001"` of the impostors, for a detector `"0.1"` false faces an image.
        gates: Gates that the model had to pass, each with figure and bound.
        figures: Figures that were measured of the model, for example accuracies.
        provenance: Configuration, data and versions that made the model.
        license: License of the model and the data behind it.
        sha256: SHA-256 of the model file.
        classes: Names of a classifier's classes, in the order of its outputs.
    """

    path: Path
    name: str
    task: str
    image: InputSpec | None
    inputs: Arrays
    outputs: Arrays
    thresholds: dict[str, float]
    gates: list[dict[str, Any]]
    figures: dict[str, Any]
    provenance: dict[str, Any]
    license: str
    sha256: str
    classes: tuple[str, ...] = ()

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def card(self) -> Path:
        return self.path / CARD

    @property
    def input(self) -> InputSpec:
        """Size and preprocessing of the image that the model takes.

        Raises:
            BundleError: it takes something else.
        """
        if self.image is None:
            names = ", ".join(spec.name for spec in self.inputs.specs)
            raise BundleError(f"bundle {self.path}: the model takes no image but {names}; give another one")
        return self.image

    @property
    def golden_input(self) -> NDArray[Any]:
        """`(K, ...)` golden values of the first input, `(K, height, width, 3)` uint8 for images."""
        return self.inputs.golden[0]

    @property
    def golden_output(self) -> NDArray[np.float32]:
        """`(K, ...)` float32, what the model gives for them; its first output."""
        return self.outputs.golden[0]


def load_bundle(folder: Path | str) -> Bundle:
    """Reads a bundle and checks every file of it.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        BundleError: A file is truncated or altered, or the bundle is of another version.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"bundle {folder}: {name} is missing; copy the bundle again")
        found = file_sha256(path)
        if found != expected:
            raise BundleError(
                f"bundle {folder}: {name} is altered: sha256 is {found[:12]}..., "
                f"{MANIFEST} says {expected[:12]}...; copy the bundle again"
            )
    inputs, outputs = read_golden(folder, manifest)
    return Bundle(
        path=folder,
        name=manifest["name"],
        task=manifest["task"],
        image=image_spec(manifest),
        inputs=inputs,
        outputs=outputs,
        thresholds=manifest["thresholds"],
        gates=manifest["gates"],
        figures=manifest["figures"],
        provenance=manifest["provenance"],
        license=manifest["license"],
        sha256=manifest["files"][MODEL],
        classes=tuple(manifest.get("classes", ())),
    )


def write_bundle(
    folder: Path | str,
    *,
    name: str,
    task: str,
    model: bytes,
    input: InputSpec | None,
    golden_input: NDArray[Any] | Mapping[str, NDArray[Any]],
    golden_output: NDArray[np.float32] | Mapping[str, NDArray[np.float32]],
    provenance: Mapping[str, Any],
    license: str,
    card: str,
    thresholds: Mapping[str, float] | None = None,
    gates: Sequence[Mapping[str, Any]] = (),
    figures: Mapping[str, Any] | None = None,
    classes: Sequence[str] = (),
) -> Bundle:
    """Writes a bundle, whole or not at all; a bundle that is there already is replaced.

    Args: see `Bundle`. `card` is the text of the model card.
        input: of a model that takes an image; `None` for one that takes other arrays, or several.
        golden_input: images, `(K, height, width, 3)` uint8; for another model arrays `(K, ...)` by the name of each
            input, in the order of the model.
        golden_output: what the model gives for them, `(K, ...)`; by name where there are several.

    Raises:
        ValueError: the model is not a TFLite file, or the golden arrays do not fit the input.
        FileExistsError: the folder holds something else than a bundle.
    """
    folder = Path(folder)
    if model[4:8] != b"TFL3":
        raise ValueError(f"bundle {folder}: the model is not a TFLite file (no TFL3 mark in its first 8 bytes)")
    inputs = named(golden_input if isinstance(golden_input, Mapping) else {"image": golden_input})
    outputs = named(golden_output if isinstance(golden_output, Mapping) else {"output": golden_output})
    _require_golden(folder, input, inputs, outputs)
    kept: dict[str, Any] = {
        member: array if member == "input" and input is not None else array.astype(np.float32)
        for member, array in golden_files(inputs, outputs).items()
    }
    golden = io.BytesIO()
    np.savez_compressed(golden, **kept)
    files = {MODEL: model, GOLDEN: golden.getvalue(), CARD: card.encode()}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "task": task,
        "input": None if input is None else input.as_json(),
        "inputs": stated(inputs),
        "outputs": stated(outputs),
        "thresholds": dict(thresholds or {}),
        "gates": [dict(gate) for gate in gates],
        "figures": dict(figures or {}),
        "provenance": dict(provenance),
        "license": license,
        **({"classes": list(classes)} if classes else {}),
        "files": {file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
    }
    # Written and read once, so that what is hashed is what a reader will see (tuples become lists).
    manifest = json.loads(json.dumps(manifest, allow_nan=False))
    text = json.dumps({**manifest, "sha256": digest(manifest)}, indent=2, ensure_ascii=False) + "\n"
    _replace_folder(folder, {**files, MANIFEST: text.encode()})
    return load_bundle(folder)


def _require_golden(folder: Path, image: InputSpec | None, inputs: Arrays, outputs: Arrays) -> None:
    count = len(inputs.golden[0])
    if image is not None:
        shape = (count, image.height, image.width, 3)
        (images,), (given, *_) = inputs.golden, outputs.golden
        if images.dtype != np.uint8 or count == 0 or images.shape != shape or len(given) != count:
            raise ValueError(
                f"bundle {folder}: golden images must be one or more uint8 images {shape} and what the model gives for "
                f"each; got {images.dtype} {images.shape} and {given.shape}"
            )
    counts = {len(array) for array in (*inputs.golden, *outputs.golden)}
    if counts != {count} or count == 0:
        raise ValueError(f"bundle {folder}: golden arrays must be of as many examples each, one or more; got {counts}")


def add_evaluation(
    bundle_folder: Path | str,
    out: Path | str,
    *,
    thresholds: Mapping[str, float],
    gates: Sequence[Mapping[str, Any]],
    card: str,
    figures: Mapping[str, Any],
) -> Bundle:
    """Copies a bundle to `out`, with the evaluation of its model added and the card replaced."""
    bundle = load_bundle(bundle_folder)
    return write_bundle(
        out,
        name=bundle.name,
        task=bundle.task,
        model=bundle.model.read_bytes(),
        input=bundle.image,
        golden_input=bundle.inputs.by_name(),
        golden_output=bundle.outputs.by_name(),
        provenance=bundle.provenance,
        license=bundle.license,
        card=card,
        thresholds=thresholds,
        gates=gates,
        figures=figures,
        classes=bundle.classes,
    )


def is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def place_of(model: Path) -> Path:
    """Where a model is: its path, or where nothing is there the folder of the bundle in `BUNDLED` of that name."""
    return model if model.exists() else BUNDLED.get(str(model), model)


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts the files in place as one folder; at no moment is there a folder with some of them."""
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not a bundle; choose another folder or remove it")
    with atomic_folder(folder) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)
