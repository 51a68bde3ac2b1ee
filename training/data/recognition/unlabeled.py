"""Faces without names, for distillation: folders of aligned crops, or packed files, beside a labeled source."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slimcam.training.data.images import Images, Joined
from slimcam.training.data.recognition import packed
from slimcam.training.data.recognition.faces import UNLABELED, FaceSet
from slimcam.training.data.recognition.file_index import contents_of
from slimcam.training.data.recognition.folders import FileImages, images_below
from slimcam.training.data.recognition.packed import PackedConfig


def beside(faces: FaceSet, paths: Sequence[Path]) -> tuple[FaceSet, tuple[str, ...]]:
    """The faces of a set, then those of folders and packed files, whose label is `UNLABELED`.

    Args:
        paths: folders, of which all images count however deep they lie, and files that the pack stage wrote, of which
            the images to train on count.

    Returns:
        The set, and one line for each image that was skipped.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: a folder without a readable image, or a file that is not a whole pack.
    """
    if not paths:
        return faces, ()
    parts: list[Images] = [faces.images]
    notes: list[str] = []
    for path in paths:
        if path.is_file():
            parts.append(packed.load(PackedConfig(path=str(path))).train.images)
            continue
        files = _files(path)
        whole = contents_of(path, files).readable
        notes += [f"skipped {file}: not a readable image" for file, ok in zip(files, whole, strict=True) if not ok]
        if not whole.any():
            raise ValueError(f"data.unlabeled: no readable image in {path}")
        parts.append(FileImages([file for file, ok in zip(files, whole, strict=True) if ok]))
    images = Joined(parts)
    labels = np.full(len(images), UNLABELED, np.int32)
    labels[: len(faces)] = faces.labels
    return FaceSet(images, labels, faces.identities), tuple(notes)


def fingerprint(paths: Sequence[Path]) -> bytes:
    """A digest of the names and contents of all images, the same wherever they lie; raises what `beside` raises."""
    total = hashlib.sha256()
    for path in paths:
        if path.is_file():
            total.update(packed.fingerprint(PackedConfig(path=str(path))).encode())
            continue
        files = _files(path)
        for file, digest in zip(files, contents_of(path, files).digests, strict=True):
            total.update(file.relative_to(path).as_posix().encode() + b"\0" + digest.tobytes())
    return total.digest()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"data.unlabeled: no folder or file {folder}")
    return images_below(folder)
