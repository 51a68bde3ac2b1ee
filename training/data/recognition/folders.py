"""Folders with one directory for each identity, joined into one set and split by identity."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY, key_material
from slimcam.training.data.images import IMAGE_SIZE, Image, decode, read_bytes
from slimcam.training.data.recognition.faces import FaceData, FaceSet
from slimcam.training.data.recognition.file_index import contents_of
from slimcam.training.data.recognition.split import LEAST_PEOPLE, split_people, too_few

EXTENSIONS = frozenset(
    f".{kind}"
    for kind in (
        *("avif", "bmp", "dib", "exr", "gif", "hdr", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm", "pic", "png", "pnm"),
        *("ppm", "ras", "sr", "tif", "tiff", "webp"),
    )
)
"""What OpenCV reads; other files, such as notes, are passed over."""


@dataclass
class FoldersConfig:
    """Aligned faces in folders.

    Attributes:
        root: Folder that the entries of `folders` are relative to.
        folders: Folders with one directory for each identity; the same name in two folders is the same person.
        exclude: Identities to leave out.
        unlabeled: Folders of aligned crops, however deep they lie, or files of the pack stage, relative to `root`; what
            they hold is trained on by distillation alone.
        test_fraction: Share of the identities kept for verification.
        test_pairs: Number of verification pairs sampled from the people kept.
        seed: Seed of the split and the pairs.
        held_out_fraction: Share of the identities by whom the best weights are chosen (`fit.validations`).
    """

    task: ClassVar[str] = "recognition"

    kind: str = "folders"
    root: str = field(default="???", metadata=NOT_KEY)
    folders: list[str] = field(default_factory=lambda: ["."])
    exclude: list[str] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list, metadata=NOT_KEY)
    test_fraction: float = 0.1
    test_pairs: int = 2000
    seed: int = 0
    held_out_fraction: float = field(default=0.0, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"data.test_fraction must lie between 0 and 1; got {self.test_fraction}")
        if not 0 <= self.held_out_fraction < 1 - self.test_fraction:
            raise ValueError(
                f"data.held_out_fraction is 0 to what data.test_fraction leaves, below {1 - self.test_fraction:g}; got "
                f"{self.held_out_fraction}"
            )


class FileImages:
    """Images decoded when asked for, as uint8 RGB; another size than 112x112 is resized."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Image:
        return read_image(self.paths[index])

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """The bytes of a file.

        Raises:
            OSError: it cannot be read any more.
        """
        return np.fromfile(self.paths[index], dtype=np.uint8)


@dataclass(frozen=True)
class Listing:
    """Files found under identity folders: `files[i]` shows `names[i]`; `notes` says what was skipped."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def load(config: FoldersConfig) -> FaceData:
    """Reads the folders' listings, checks every file and splits the identities.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: no identity is left, or too few for verification.
    """
    listing = scan([Path(config.root) / folder for folder in config.folders], exclude=config.exclude)
    identities = sorted(set(listing.names))
    if len(identities) < LEAST_PEOPLE:
        raise too_few(len(identities), config.root, layout_hint(Path(config.root), "person"))
    faces = face_set(listing, set(identities))
    return split_people(
        faces, config.test_fraction, config.test_pairs, config.seed, listing.notes, config.held_out_fraction
    )


def fingerprint(config: FoldersConfig) -> str:
    """A digest of every image's name and content and of how they are split: the same in another place."""
    total = hashlib.sha256(choices(config))
    total.update(digest_files([Path(config.root) / folder for folder in config.folders]))
    return total.hexdigest()


def scan(folders: Sequence[Path], *, exclude: Sequence[str] = (), only: Collection[str] | None = None) -> Listing:
    """Lists the readable images of every identity directory in `folders`, in a stable order.

    Every file is decoded once; what cannot be, and identity folders without an image, become notes.

    Args:
        exclude: identities to leave out.
        only: identities to look at; all where it is `None`.
    """
    left_out = set(exclude)
    kept: list[Path] = []
    names: list[str] = []
    notes: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"data: no folder {folder}")
        files: list[Path] = []
        for identity in identity_folders(folder):
            if identity.name in left_out or (only is not None and identity.name not in only):
                continue
            called = {path: path.is_file() for path in image_names(identity)}
            own = [path for path, file in called.items() if file]
            notes += [f"skipped {path}: {_no_file(path)}" for path, file in called.items() if not file]
            if not own:
                notes.append(f"skipped {identity}: no image in it")
            files += own
        whole = contents_of(folder, files).readable
        notes += [f"skipped {path}: not a readable image" for path, ok in zip(files, whole, strict=True) if not ok]
        kept += (readable := [path for path, ok in zip(files, whole, strict=True) if ok])
        names += [path.parent.name for path in readable]
    return Listing(tuple(kept), tuple(names), tuple(notes))


def identity_folders(folder: Path) -> list[Path]:
    """The folders of people or classes in a folder, in order; hidden ones are nobody's."""
    return sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_dir())


def image_names(folder: Path) -> list[Path]:
    """What in a folder is called like an image, in order; hidden files are not."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name[0] != ".")
    # Half a million times the suffix of a path would take seconds.
    return [folder / name for name in names if f".{name.rpartition('.')[2].lower()}" in EXTENSIONS]


def images_below(folder: Path) -> list[Path]:
    """The files in a folder, however deep, that are called like images, in order."""
    found: list[Path] = []
    seen: set[str] = set()
    # Links to folders are followed, each folder once: a set often lies on another disk.
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        found += [Path(place, name) for name in names]
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS and path.is_file())


def layout_hint(folder: Path, kind: str) -> str:
    """What to do where the images of all people or classes lie in one folder, as the end of a message."""
    loose = image_names(folder)
    if not loose:
        return f"; it wants one folder for each {kind}, with images in it"
    example = folder / "NAME" / loose[0].name
    return f"; {len(loose)} images lie in {folder} itself: make one folder for each {kind}, as {example}"


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "a link that leads nowhere" if path.is_symlink() else "not a file"


def face_set(listing: Listing, names: set[str]) -> FaceSet:
    """The faces of some identities of a listing."""
    identities = tuple(sorted(names))
    label = {name: i for i, name in enumerate(identities)}
    chosen = [(path, label[name]) for path, name in zip(listing.files, listing.names, strict=True) if name in label]
    return FaceSet(
        FileImages([path for path, _ in chosen]), np.array([i for _, i in chosen], dtype=np.int32), identities
    )


def choices(config: Any) -> bytes:
    """The options that decide which faces are taken, as text; where they lie is not one of them."""
    return json.dumps({"root": None, **key_material(config)}, sort_keys=True).encode()


def digest_files(folders: Sequence[Path]) -> bytes:
    """SHA-256 over the relative names and contents of the images of every identity directory of some folders."""
    total = hashlib.sha256()
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"data: no folder {folder}")
        files = [path for identity in identity_folders(folder) for path in image_names(identity) if path.is_file()]
        for path, digest in zip(files, contents_of(folder, files).digests, strict=True):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + digest.tobytes())
    return total.digest()


def read_image(path: Path) -> Image:
    """Decodes one image file as `(112, 112, 3)` uint8 RGB.

    Raises:
        ValueError: not a readable image.
    """
    image = decode_image(read_bytes(path))
    if image is None:
        raise ValueError(f"{path}: not a readable image")
    return image


def decode_image(encoded: NDArray[np.uint8]) -> Image | None:
    """Decodes the bytes of an image file as `(112, 112, 3)` uint8 RGB; `None` where they are not readable."""
    image = decode(encoded)
    if image is not None and image.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        image = cv2.resize(image, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    return image


def digest_file(path: Path) -> bytes:
    """SHA-256 of a file's content; of nothing where it cannot be read."""
    return hashlib.sha256(read_bytes(path).tobytes()).digest()
