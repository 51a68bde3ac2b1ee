"""All faces of a source in one file, for a machine that has none of its folders.

An `.npz` file holds, for each set of faces, the encoded images end to end, where each ends, and the labels; and the
pairs. Images are the bytes of their files as they are, or PNG where there were no files, so that reading gives the very
pixels of the source; they are decoded when asked for. It also says which source it was packed from, by its options and
its fingerprint: to the pipeline the packed faces are that source.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import save_arrays
from slimcam.deploy.common.result_key import KEY_FILE
from slimcam.training.data.images import Image
from slimcam.training.data.recognition.encoded import Bytes, encoded
from slimcam.training.data.recognition.faces import FaceData, FaceSet, Pairs, Verification
from slimcam.training.data.recognition.folders import decode_image

FORMAT = "slimcam faces 2"


@dataclass
class PackedConfig:
    """Faces of another source, packed into one file by `slimcam stages=[pack]`.

    Attributes:
        path: File of the pack.
    """

    task: ClassVar[str] = "recognition"

    kind: str = "packed"
    path: str = field(default="???", metadata=KEY_FILE)


class PackedImages:
    """Images decoded when asked for: number `i` ends at `ends[i]` of the bytes `encoded`."""

    def __init__(self, encoded: Bytes, ends: NDArray[np.int64]) -> None:
        self._encoded, self._ends = encoded, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int, /) -> Image:
        image = decode_image(self.encoded(index))
        if image is None:
            raise ValueError(f"packed image {index} is not readable; pack the faces again")
        return image

    def encoded(self, index: int) -> Bytes:
        """The image's bytes as they were in its file."""
        start = int(self._ends[index - 1]) if index else 0
        return self._encoded[start : int(self._ends[index])]


def write(path: Path, data: FaceData, source: dict[str, Any], fingerprint: str) -> None:
    """Packs faces into a file, atomically.

    Args:
        source: the options that the source chose the faces by, as keys of results have them.
        fingerprint: of the source.

    Raises:
        OSError: an image cannot be read any more, or the file not be written.
    """
    sets = {"train": data.train, "test": data.test}
    pairs = {"test": data.pairs}
    names = [f"held_out_{number}" for number in range(len(data.held_out))]
    for name, held in zip(names, data.held_out, strict=True):
        sets[name], pairs[name] = held.faces, held.pairs
    about = {
        "format": FORMAT,
        "source": source,
        "fingerprint": fingerprint,
        "held_out": dict(zip(names, (held.source for held in data.held_out), strict=True)),
        "identities": {name: faces.identities for name, faces in sets.items()},
        "notes": list(data.notes),
    }
    arrays: dict[str, Any] = {"about": json.dumps(about)}
    for name, faces in sets.items():
        images = [encoded(faces.images, index) for index in range(len(faces))]
        arrays[f"{name}_images"] = np.concatenate(images)
        arrays[f"{name}_ends"] = np.cumsum([len(image) for image in images], dtype=np.int64)
        arrays[f"{name}_labels"] = faces.labels
    for name, protocol in pairs.items():
        columns = (protocol.left, protocol.right, protocol.same, protocol.fold)
        arrays[f"{name}_pairs"] = np.stack(columns, axis=1).astype(np.int32)
    save_arrays(path, **arrays)


def load(config: PackedConfig) -> FaceData:
    """Reads the faces of a pack; they stay encoded in memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a pack, or a damaged one.
    """
    with _opened(config) as pack:
        about = _about(pack)

        def faces(name: str) -> FaceSet:
            images = PackedImages(pack[f"{name}_images"], pack[f"{name}_ends"])
            return FaceSet(images, pack[f"{name}_labels"], tuple(about["identities"][name]))

        def pairs(name: str) -> Pairs:
            left, right, same, fold = np.ascontiguousarray(pack[f"{name}_pairs"].T)
            return Pairs(left, right, same.astype(bool), fold)

        held_out = (Verification(faces(name), pairs(name), source) for name, source in about["held_out"].items())
        return FaceData(faces("train"), faces("test"), pairs("test"), tuple(about["notes"]), tuple(held_out))


def fingerprint(config: PackedConfig) -> str:
    """The fingerprint of the source that was packed; raises what `load` raises."""
    with _opened(config) as pack:
        return str(_about(pack)["fingerprint"])


def source(config: PackedConfig) -> dict[str, Any]:
    """The options that the packed source chose the faces by; raises what `load` raises."""
    with _opened(config) as pack:
        options: dict[str, Any] = _about(pack)["source"]
        return options


@contextmanager
def _opened(config: PackedConfig) -> Iterator[Any]:
    if not Path(config.path).is_file():
        raise FileNotFoundError(f"data.path: no file {config.path}; slimcam stages=[pack] makes one")
    try:
        with np.load(config.path) as pack:
            yield pack
    # What numpy and zipfile raise on files that are something else, cut short or damaged.
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"data.path {config.path}: not a whole pack of faces ({error}); pack them again") from error


def _about(pack: Any) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(str(pack["about"]))
    if about.get("format") != FORMAT:
        raise ValueError(f"expected the format {FORMAT!r}, got {about.get('format')!r}")
    return about
