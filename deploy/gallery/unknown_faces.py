"""Faces that were seen as unknown, kept for their owner to name: a file a face, encrypted with the gallery's key.

A folder of files, not a table of the gallery: what is kept here expires within days, is deleted by removing a file, and
an owner who never asked for it has no such folder.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.deploy.gallery.crops import decode_crops, encode_crop
from slimcam.deploy.gallery.encryption import Cipher, check_outside, default_key, make_key
from slimcam.deploy.gallery.people import Template

_SUFFIX = ".face"


@dataclass(frozen=True)
class UnknownFace:
    """The best view of a track that was nobody's in the gallery.

    Attributes:
        id: Random, 32 hexadecimal digits.
        at: Unix time of the view.
        embedding: `(E,)` float32, L2-normalized.
        crop: `(112, 112, 3)` uint8 RGB, the aligned face.
    """

    id: str
    at: float
    embedding: NDArray[np.float32]
    crop: NDArray[np.uint8]


class UnknownFaces:
    """A folder of kept faces. Used from one thread at a time; it is made with the first face.

    Args:
        folder: Of the files, outside of the key's folder.
        key: The gallery's key; made where there is none.
        model: SHA-256 of the recognizer; faces of another one are of no use and removed.
        days: After which a face is removed.
        limit: Most faces that are kept; the oldest ones make way.

    Raises:
        ValueError: days or limit are not above 0, or the key lies in the folder.
    """

    def __init__(self, folder: Path, key: Path | None, model: str, days: float, limit: int) -> None:
        if not 0 < days <= 366 or not 1 <= limit <= 10_000:
            raise ValueError(
                f"unknown faces are kept for 0 to 366 days, 1 to 10,000 of them; got {days:g} days and {limit}"
            )
        self._folder, self._key, self._model = folder, key or default_key(), model
        check_outside(self._key, folder / "x")
        self._seconds, self._limit = days * 86400, limit

    def keep(self, at: float, embedding: NDArray[np.float32], crop: NDArray[np.uint8]) -> str:
        """Keeps a face; gives its id.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        id = secrets.token_hex(16)
        head = json.dumps({"at": at, "model": self._model, "size": len(embedding)}).encode()
        content = len(head).to_bytes(4, "little") + head + embedding.astype("<f4").tobytes() + encode_crop(crop)
        with atomic(self._path(id), durable=True, mode=0o600) as partial:
            partial.write_bytes(self._cipher().encrypt(content, "unknown face", id))
        self.tidy()
        return id

    def faces(self) -> list[UnknownFace]:
        """Those that are kept, newest first; what has expired, is damaged or another recognizer's is removed."""
        self.tidy()
        found = [self._read(path) for path in self._files()]
        return sorted((one for one in found if one is not None), key=lambda one: -one.at)

    def take(self, ids: Sequence[str]) -> list[UnknownFace]:
        """The faces of these ids.

        Raises:
            ValueError: one is not kept (any more).
        """
        kept = {face.id: face for face in self.faces()}
        if missing := [id for id in ids if id not in kept]:
            raise ValueError(f"{len(missing)} of these faces are not kept any more; look again")
        return [kept[id] for id in ids]

    def remove(self, ids: Sequence[str]) -> None:
        """Deletes faces; those that are not there are gone already."""
        for id in ids:
            if re.fullmatch("[0-9a-f]{32}", id):
                self._path(id).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Deletes what has expired, and the oldest ones beyond the limit."""
        files = sorted(self._files(), key=lambda path: path.stat().st_mtime)
        old = time.time() - self._seconds
        for place, path in enumerate(files):
            if place < len(files) - self._limit or path.stat().st_mtime < old:
                path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return list(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else []

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}{_SUFFIX}"

    def _read(self, path: Path) -> UnknownFace | None:
        try:
            content = self._cipher().decrypt(path.read_bytes(), "unknown face", path.stem)
            start = 4 + int.from_bytes(content[:4], "little")
            head = json.loads(content[4:start])
            end = start + 4 * int(head["size"])
            embedding = np.frombuffer(content[start:end], "<f4").astype(np.float32)
            if head["model"] == self._model:
                (crop,) = decode_crops([Template(embedding, content[end:], "an unknown face")])
                return UnknownFace(path.stem, float(head["at"]), embedding, crop)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            pass
        path.unlink(missing_ok=True)
        return None

    def _cipher(self) -> Cipher:
        return Cipher(make_key(self._key))


def grouped(faces: Sequence[UnknownFace], alike: float) -> list[list[UnknownFace]]:
    """Faces by likeness: whoever is alike with one of a group is in it. The group with the newest face comes first.

    Args:
        faces: Newest first.
        alike: Least cosine of two views of one person.
    """
    if not faces:
        return []
    likeness = np.stack([face.embedding for face in faces])
    near = likeness @ likeness.T >= alike
    left, groups = set(range(len(faces))), []
    for first in range(len(faces)):
        if first not in left:
            continue
        reached, pending = {first}, [first]
        while pending:
            new = {int(i) for i in np.flatnonzero(near[pending.pop()])} - reached
            reached |= new
            pending += new
        left -= reached
        groups.append([faces[i] for i in sorted(reached)])
    return groups
