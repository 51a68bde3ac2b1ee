"""What stands in the `bundle.json` of a bundle, and its golden arrays: read without trust.

A bundle may come from anywhere, and its digests tell that it is whole, not that whoever made it means well. What is
read here has the types that it should have, or is refused in one line.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.messages import one_line

SCHEMA_VERSION = 2

MODEL = "model.tflite"
GOLDEN = "golden.npz"
CARD = "MODEL_CARD.md"
MANIFEST = "bundle.json"

_LARGEST = {MANIFEST: 16 << 20, GOLDEN: 256 << 20}
"""Bytes; a file that unpacks to more is none of ours."""


@dataclass(frozen=True)
class InputSpec:
    """The image that the model takes: RGB, uint8 pixels normalized as `(pixel - mean) / scale`."""

    height: int = 112
    width: int = 112
    mean: float = 128.0
    scale: float = 128.0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1 or not self.scale > 0:
            raise ValueError(f"an input needs a size of 1 or more and a scale above 0; got {self}")


@dataclass(frozen=True)
class ArraySpec:
    """An array that the model takes or gives.

    Attributes:
        name: What it is called.
        shape: Its shape for one example, of any rank.
    """

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name or min(self.shape, default=1) < 1:
            raise ValueError(f"an array needs a name and sizes of 1 or more; got {self}")


@dataclass(frozen=True)
class Arrays:
    """What a model takes or gives, and golden values of it.

    Attributes:
        specs: Name and shape of each, in the model's order.
        golden: `(K, *shape)` of each.
    """

    specs: tuple[ArraySpec, ...]
    golden: tuple[NDArray[Any], ...]

    def by_name(self) -> dict[str, NDArray[Any]]:
        return {spec.name: array for spec, array in zip(self.specs, self.golden, strict=True)}


def digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a manifest without its own."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, each entry of the type that it should have, without its digest.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it is truncated, altered, of another version, or not a bundle's.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"bundle {folder}: there is no {MANIFEST} in it; give the folder of a bundle")
    try:
        _require((folder / MANIFEST).stat().st_size <= _LARGEST[MANIFEST], "its size")
        manifest = json.loads((folder / MANIFEST).read_bytes())
        version, expected = manifest["schema_version"], manifest.pop("sha256")
        found = digest(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"bundle {folder}: {MANIFEST} is truncated or not a bundle's; copy the bundle again"
        ) from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {folder}: {MANIFEST} has schema version {one_line(str(version))[:20]}, this slimcam reads "
            f"{SCHEMA_VERSION}; update slimcam or make the bundle again"
        )
    if expected != found:
        raise BundleError(f"bundle {folder}: {MANIFEST} is altered (its sha256 does not fit); copy the bundle again")
    try:
        for name, sound in _ENTRIES.items():
            _require(sound(manifest.get(name)), name)
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST} is not a bundle's ({error}); make the bundle again") from error
    return dict(manifest)


def image_spec(manifest: Mapping[str, Any]) -> InputSpec | None:
    """Size and preprocessing of the image that the model takes; None for one that takes other arrays."""
    return None if manifest["input"] is None else InputSpec(**manifest["input"])


def read_golden(folder: Path, manifest: Mapping[str, Any]) -> tuple[Arrays, Arrays]:
    """The inputs and outputs of the model of a bundle.

    Raises:
        BundleError: the file of golden arrays cannot be read, or does not fit the manifest.
    """
    try:
        with zipfile.ZipFile(folder / GOLDEN) as archive:
            _require(sum(each.file_size for each in archive.infolist()) <= _LARGEST[GOLDEN], "its size")
        with np.load(folder / GOLDEN, allow_pickle=False) as file:
            inputs, outputs = (_arrays(file, manifest, role) for role in ("input", "output"))
        counts = {len(array) for array in (*inputs.golden, *outputs.golden)}
        _require(len(counts) == 1 and 0 not in counts, "the number of examples")
        _require(all(array.dtype == np.float32 for array in outputs.golden), "the outputs")
        image = image_spec(manifest)
        if image is not None:
            _require(inputs.golden[0].dtype == np.uint8, "the images")
            _require(inputs.specs[0].shape == (image.height, image.width, 3), "the images' size")
    except (ValueError, KeyError, TypeError, EOFError, OSError, MemoryError, *_ZIP) as error:
        raise BundleError(
            f"bundle {folder}: {GOLDEN} holds no golden arrays of this model ({one_line(error)}); make the bundle again"
        ) from error
    return inputs, outputs


_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, RecursionError, OverflowError)
"""What Python's reader raises on archives that are none."""


def named(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Arrays `(K, ...)` by name as inputs or outputs."""
    specs = tuple(ArraySpec(name, array.shape[1:]) for name, array in arrays.items())
    return Arrays(specs, tuple(arrays.values()))


def golden_files(inputs: Arrays, outputs: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays of the golden file by their names in it: those of images as `input` and `output`."""
    return {
        _member(role, place, len(arrays.golden)): array
        for role, arrays in (("input", inputs), ("output", outputs))
        for place, array in enumerate(arrays.golden)
    }


def stated(arrays: Arrays) -> list[dict[str, Any]]:
    """Names and shapes as the manifest has them."""
    return [asdict(spec) for spec in arrays.specs]


def _arrays(file: Mapping[str, NDArray[Any]], manifest: Mapping[str, Any], role: str) -> Arrays:
    # A bundle of an earlier version has one image and one output, and does not state them.
    specs = manifest.get(f"{role}s") or [None]
    golden = tuple(file[_member(role, place, len(specs))] for place in range(len(specs)))
    _require(all(array.ndim > 0 for array in golden), role)
    found = tuple(
        ArraySpec("image" if role == "input" else role, array.shape[1:])
        if spec is None
        else ArraySpec(spec["name"], tuple(spec["shape"]))
        for spec, array in zip(specs, golden, strict=True)
    )
    for spec, array in zip(found, golden, strict=True):
        _require(spec.shape == array.shape[1:], f"the shape of {role} {spec.name}")
    return Arrays(found, golden)


def _member(role: str, place: int, count: int) -> str:
    return role if count == 1 else f"{role}_{place}"


def _require(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(f"{what} is not as it should be")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _image(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or set(value) != set(asdict(InputSpec())):
        return False
    return _size(value["height"]) and _size(value["width"]) and _number(value["mean"]) and _above_zero(value["scale"])


def _above_zero(value: Any) -> bool:
    return _number(value) and value > 0


def _array_list(value: Any) -> bool:
    return value is None or (isinstance(value, list) and bool(value) and all(map(_array, value)))


def _array(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"name", "shape"}:
        return False
    shape = value["shape"]
    return _text(value["name"]) and bool(value["name"]) and isinstance(shape, list) and all(map(_size, shape))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(of: Callable[[Any], bool] = lambda _: True) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "name": _text,
    "task": _text,
    "input": _image,
    "inputs": _array_list,
    "outputs": _array_list,
    "thresholds": _mapping(_number),
    "gates": lambda value: isinstance(value, list) and all(isinstance(gate, dict) for gate in value),
    "figures": _mapping(),
    "provenance": _mapping(),
    "license": _text,
    "files": lambda value: isinstance(value, dict) and set(value) == {MODEL, GOLDEN, CARD} and _mapping(_text)(value),
}
"""What each entry of a manifest must be."""
