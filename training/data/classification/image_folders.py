"""Folders with one directory for each class: those of ImageNet, or one's own photos."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.result_key import NOT_KEY
from slimcam.deploy.inference.preprocessing import middle_square
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.images import Image, decode, read_bytes
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.data.recognition.folders import Listing, choices, digest_files, layout_hint, scan


@dataclass
class ImageFoldersConfig:
    """Images in folders, one for each class, of any size; their middle square is what a model sees.

    Attributes:
        root: Folder with the folders of `train` and `test`, or, without these, with those of the classes.
        train: Folder of the images to train on, relative to `root`.
        test: Folder of the images to evaluate on, relative to `root`.
        exclude: Classes to leave out.
        test_fraction: Share of each class's images to evaluate on where root has no folders `train` and `test`.
        held_out_fraction: Share of each class's training images by which the best weights are chosen
            (`fit.validations`).
        seed: Seed of what is held out.
    """

    task: ClassVar[str] = "classification"

    kind: str = "image_folders"
    root: str = field(default="???", metadata=NOT_KEY)
    train: str = "train"
    test: str = "val"
    exclude: list[str] = field(default_factory=list)
    test_fraction: float = 0.2
    held_out_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1 or not 0 <= self.held_out_fraction < 1:
            raise ValueError(
                "data.test_fraction lies between 0 and 1, data.held_out_fraction is 0 to below 1; got "
                f"{self.test_fraction} and {self.held_out_fraction}"
            )


class SquareImages:
    """The middle square of image files, decoded when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Image:
        image = decode(read_bytes(self.paths[index]))
        if image is None:
            raise ValueError(f"{self.paths[index]}: not a readable image")
        return middle_square(image)


def load(config: ImageFoldersConfig) -> ClassData:
    """Reads the folders' listings, checks every file and splits the images.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: fewer than two classes, or one with too few images.
    """
    root = Path(config.root)
    split = _folders(config)
    if len(split) == 2:
        train, test = (scan([folder], exclude=config.exclude) for folder in split)
    else:
        whole = scan(split, exclude=config.exclude)
        test, train = _halves(whole, config.test_fraction, np.random.default_rng(config.seed))
    classes = sorted(set(train.names))
    if len(classes) < 2:
        raise ValueError(
            f"data.root {root}: {len(classes)} classes with readable images; at least 2 are needed"
            + layout_hint(split[0], "class")
        )
    if strange := sorted(set(test.names) - set(classes)):
        raise ValueError(
            f"data.root {root}: {', '.join(strange[:5])} in {config.test}, but without an image in {config.train}"
        )
    held_out = None
    notes = [*train.notes, *(note for note in test.notes if note not in train.notes)]
    notes += [f"no image of {name} to evaluate on" for name in classes if name not in set(test.names)]
    if config.held_out_fraction:
        chosen, train = _halves(train, config.held_out_fraction, np.random.default_rng((config.seed, 1)))
        held_out = _labeled(chosen, classes)
    return ClassData(_labeled(train, classes), _labeled(test, classes), held_out, notes)


def fingerprint(config: ImageFoldersConfig) -> str:
    """A digest of every image's name and content and of how they are split: the same in another place."""
    total = hashlib.sha256(choices(config))
    total.update(digest_files(_folders(config)))
    return total.hexdigest()


def _folders(config: ImageFoldersConfig) -> list[Path]:
    """The folder to train on and that to evaluate on; or the one for both."""
    root = Path(config.root)
    both = [root / config.train, root / config.test]
    there = [folder for folder in both if folder.is_dir()]
    if len(there) == 1:
        missing = next(folder for folder in both if folder not in there)
        raise FileNotFoundError(
            f"data: there is {there[0]}, but no {missing.name} beside it; make it, or name the folder to train on and "
            "that to evaluate on: data.train=... data.test=..."
        )
    return there or [root]


def _halves(listing: Listing, share: float, rng: np.random.Generator) -> tuple[Listing, Listing]:
    """A share of each class's images, one at the least, and the others."""
    names = np.array(listing.names)
    taken: NDArray[np.bool_] = np.zeros(len(names), dtype=bool)
    for name in sorted(set(listing.names)):
        places = np.flatnonzero(names == name)
        if len(places) < 2:
            raise ValueError(f"data: {len(places)} readable image of {name}; at least 2 are needed to hold one out")
        count = min(max(1, round(share * len(places))), len(places) - 1)
        taken[rng.permutation(places)[:count]] = True
    parts = [
        Listing(
            tuple(path for path, chosen in zip(listing.files, which, strict=True) if chosen),
            tuple(names[which].tolist()),
            listing.notes,
        )
        for which in (taken, ~taken)
    ]
    return parts[0], parts[1]


def _labeled(listing: Listing, classes: Sequence[str]) -> FaceSet:
    label = {name: number for number, name in enumerate(classes)}
    labels = np.array([label[name] for name in listing.names], dtype=np.int32)
    return FaceSet(SquareImages(listing.files), labels, tuple(classes))
