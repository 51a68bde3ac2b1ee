"""The model bundle: a folder with all that a device needs to run a model as it was tested.

model.tflite    batch 1
golden.npz      images, and what the model gave for them when the bundle was made
MODEL_CARD.md   for people
bundle.json     everything else, with the SHA-256 of the three files and of itself
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.files import atomic_folder, file_sha256

SCHEMA_VERSION = 2

BUNDLED = {name: Path(__file__).parent.parent / "models" / name for name in ("recognizer", "detector")}
"""The bundles that come with slimcam, by name."""

RECOGNIZER, DETECTOR = BUNDLED["recognizer"], BUNDLED["detector"]

MODEL = "model.tflite"
GOLDEN = "golden.npz"
CARD = "MODEL_CARD.md"
MANIFEST = "bundle.json"


@dataclass(frozen=True)
class InputSpec:
    """The image that the model takes: of uint8 RGB pixels it reads `(pixel - mean) / scale`.

    Attributes:
        mean: One number, or one for each of red, green and blue.
        scale: The same.
        order: Order in which the model reads the channels, `rgb` or `bgr`.
    """

    height: int = 112
    width: int = 112
    mean: float | tuple[float, ...] = 128.0
    scale: float | tuple[float, ...] = 128.0
    order: str = "rgb"

    def __post_init__(self) -> None:
        for name in ("mean", "scale"):
            value = getattr(self, name)
            if isinstance(value, Sequence):  # a list, as JSON has it
                object.__setattr__(self, name, tuple(value))
                if len(value) != 3:
                    raise ValueError(f"an input's {name} is one number, or one for each of three channels; got {value}")
        if self.height < 1 or self.width < 1 or np.min(self.scale) <= 0:
            raise ValueError(f"an input needs a size of 1 or more and a scale above 0; got {self}")
        if self.order not in ("rgb", "bgr"):
            raise ValueError(f"the order of an input's channels is rgb or bgr; got {self.order!r}")

    def as_json(self) -> dict[str, Any]:
        """The fields, less an order that bundles of earlier versions lack."""
        return {name: value for name, value in asdict(self).items() if name != "order" or value != "rgb"}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are present and unaltered.

    Attributes:
        path: Folder of the bundle.
        name: Name of the model.
        task: Task of the model: `recognition`, `detection` or `classification`.
        input: Size and preprocessing of the model's input.
        thresholds: scores at or above which the answer is yes, by the rate of errors that each allows as text: for a
            recognizer `"0.001"` of the impostors, for a detector `"0.1"` false faces an image.
        gates: Gates that the model had to pass, each with figure and bound.
        figures: Figures that were measured of the model, for example accuracies.
        golden_input: `(K, height, width, 3)` uint8.
        golden_output: `(K, ...)` float32, what the model gives for them.
        provenance: Configuration, data and versions that made the model.
        license: License of the model and the data behind it.
        sha256: SHA-256 of the model file.
        classes: Names of a classifier's classes, in the order of its outputs.
    """

    path: Path
    name: str
    task: str
    input: InputSpec
    thresholds: dict[str, float]
    gates: list[dict[str, Any]]
    figures: dict[str, Any]
    golden_input: NDArray[np.uint8]
    golden_output: NDArray[np.float32]
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


def load_bundle(folder: Path | str) -> Bundle:
    """Reads a bundle and checks every file of it.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
        BundleError: A file is truncated or altered, or the bundle is of another version.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
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
    with np.load(folder / GOLDEN, allow_pickle=False) as golden:
        golden_input, golden_output = golden["input"], golden["output"]
    return Bundle(
        path=folder,
        name=manifest["name"],
        task=manifest["task"],
        input=InputSpec(**manifest["input"]),
        thresholds=manifest["thresholds"],
        gates=manifest["gates"],
        figures=manifest["figures"],
        golden_input=golden_input,
        golden_output=golden_output,
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
    input: InputSpec,
    golden_input: NDArray[np.uint8],
    golden_output: NDArray[np.float32],
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

    Raises:
        ValueError: the model is not a TFLite file, or the golden arrays do not fit the input.
        FileExistsError: the folder holds something else than a bundle.
    """
    folder = Path(folder)
    if model[4:8] != b"TFL3":
        raise ValueError(f"bundle {folder}: the model is not a TFLite file (no TFL3 mark in its first 8 bytes)")
    count, shape = len(golden_input), (len(golden_input), input.height, input.width, 3)
    if golden_input.dtype != np.uint8 or count == 0 or golden_input.shape != shape or len(golden_output) != count:
        raise ValueError(
            f"bundle {folder}: golden images must be one or more uint8 images {shape} and what the model gives for "
            f"each; got {golden_input.dtype} {golden_input.shape} and {golden_output.shape}"
        )
    golden = io.BytesIO()
    np.savez_compressed(golden, input=golden_input, output=golden_output.astype(np.float32))
    files = {MODEL: model, GOLDEN: golden.getvalue(), CARD: card.encode()}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "task": task,
        "input": input.as_json(),
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
    text = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=2, ensure_ascii=False) + "\n"
    _replace_folder(folder, {**files, MANIFEST: text.encode()})
    return load_bundle(folder)


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
        input=bundle.input,
        golden_input=bundle.golden_input,
        golden_output=bundle.golden_output,
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


def _read_manifest(folder: Path) -> dict[str, Any]:
    if not is_bundle(folder):
        raise FileNotFoundError(f"bundle {folder}: there is no {MANIFEST} in it; give the folder of a bundle")
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        version, digest = manifest["schema_version"], manifest.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"bundle {folder}: {MANIFEST} is truncated or not a bundle's; copy the bundle again"
        ) from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {folder}: {MANIFEST} has schema version {version}, this slimcam reads {SCHEMA_VERSION}; "
            "update slimcam or make the bundle again"
        )
    if digest != _digest(manifest):
        raise BundleError(f"bundle {folder}: {MANIFEST} is altered (its sha256 does not fit); copy the bundle again")
    return dict(manifest)


def _digest(manifest: Mapping[str, Any]) -> str:
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts the files in place as one folder; at no moment is there a folder with some of them."""
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not a bundle; choose another folder or remove it")
    with atomic_folder(folder) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)
