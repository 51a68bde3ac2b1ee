"""Labeled Faces in the Wild with its own protocols: View 1 lists or the ten folds of View 2.

Huang et al. 2007, "Labeled Faces in the Wild"; list formats: http://vis-www.cs.umass.edu/lfw/README.txt
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from slimcam.deploy.common.result_key import NOT_KEY
from slimcam.training.data.images import existing
from slimcam.training.data.recognition.faces import FaceData, FaceSet, Pairs, Verification
from slimcam.training.data.recognition.folders import Listing, choices, digest_files, face_set, scan
from slimcam.training.data.recognition.pairs import sample_verification

Row = tuple[tuple[str, int], tuple[str, int], bool, int]


@dataclass
class LfwConfig:
    """LFW, and other folders of faces to train on.

    Attributes:
        root: Folder that the paths below are relative to.
        images: LFW's images, one directory for each person.
        lists: Folder of the lists.
        train_people: People to train on, a list of `lists`.
        test_pairs: Verification protocol, a list of `lists`: `pairsDevTest.txt` (View 1) or `pairs.txt` (View 2).
        extra: Further folders of identity directories to train on.
        exclude: Identities of `extra` to leave out, for example people who are also in LFW.
        unlabeled: Folders of aligned crops, however deep they lie, or files of the pack stage; what they hold is
            trained on by distillation alone.
        suspects: CSV files whose first column names files, relative to the folder beside the CSV's `images`, that
            are left out as probable label errors.
        held_out: Number of people of `extra` who are not trained on, but kept as a second verification set.
        held_out_folder: Folder of identity directories of which nothing is trained on: a further verification set,
            of another source, and the one that the best weights of a training are chosen by.
        held_out_pairs: Number of verification pairs of either further verification set.
    """

    task: ClassVar[str] = "recognition"

    kind: str = "lfw"
    root: str = field(default="???", metadata=NOT_KEY)
    images: str = "lfw112/images"
    lists: str = "lfw112"
    train_people: str = "peopleDevTrain.txt"
    test_pairs: str = "pairsDevTest.txt"
    extra: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list, metadata=NOT_KEY)
    held_out: int = 0
    held_out_folder: str | None = field(default=None, metadata=NOT_KEY)
    held_out_pairs: int = 2000


def load(config: LfwConfig) -> FaceData:
    """Reads the lists and the listings of the folders.

    Raises:
        FileNotFoundError: a folder or a list does not exist.
        ValueError: a list is malformed, names an image that is not there, or shares a person with training.
    """
    root = Path(config.root)
    lfw = scan([root / config.images])
    people = read_people(root / config.lists / config.train_people)
    rows = read_pairs(root / config.lists / config.test_pairs)
    tested = _people(rows)
    extra = scan([root / folder for folder in config.extra], exclude=config.exclude)
    shared = sorted(tested & (people | {name.replace(" ", "_") for name in extra.names}))
    if shared:
        raise ValueError(
            f"data: {len(shared)} people of {config.test_pairs} are also trained on, for example {shared[0]}; "
            f"leave them out with data.exclude"
        )
    extra = _without_suspects(extra, [root / path for path in config.suspects])
    kept = _held_out(extra, config.held_out)
    joined = _join(_only(lfw, people), _only(extra, set(extra.names) - kept))
    train = face_set(joined, set(joined.names))
    test, pairs = _protocol(lfw, rows, config.test_pairs)
    notes = [*lfw.notes, *extra.notes]
    held_out = []
    if config.held_out_folder is not None:
        other = scan([root / config.held_out_folder])
        faces = face_set(other, set(other.names))
        held_out.append(sample_verification(faces, config.held_out_pairs, Path(config.held_out_folder).name))
        notes += other.notes
    if kept:
        held_out.append(sample_verification(face_set(extra, kept), config.held_out_pairs))
    return FaceData(train, test, pairs, tuple(notes), tuple(held_out))


def load_pairs(path: Path, images: Path) -> tuple[Verification, tuple[str, ...]]:
    """The faces of all people of a list of pairs, the pairs, and one line for each image that was skipped.

    Args:
        path: list of View 1 or View 2.
        images: folder with one directory for each person.

    Raises:
        FileNotFoundError: there is no such list or folder.
        ValueError: not such a list, or it names an image that is not there.
    """
    rows = read_pairs(path)
    listing = scan([images], only=_people(rows))
    return Verification(*_protocol(listing, rows, path.name), path.stem), listing.notes


def fingerprint(config: LfwConfig) -> str:
    """A digest of every image and list that the configuration names, and of its choice among them."""
    root = Path(config.root)
    total = hashlib.sha256(choices(config))
    others = [*config.extra, *([] if config.held_out_folder is None else [config.held_out_folder])]
    total.update(digest_files([root / config.images, *(root / folder for folder in others)]))
    lists = [f"{config.lists}/{name}" for name in (config.train_people, config.test_pairs)]
    for path in (*lists, *config.suspects):
        total.update(existing(root / path).read_bytes())
    return total.hexdigest()


def read_people(path: Path) -> set[str]:
    """The names of a View 1 list: a count, then `name <tab> images` lines."""
    lines = existing(path).read_text().splitlines()
    return {line.split("\t")[0] for line in lines[1:] if line.strip()}


def read_pairs(path: Path) -> list[Row]:
    """The pairs of a View 1 or View 2 list, as `((name, number), (name, number), same, fold)`.

    A genuine pair is a line `name a b`, an impostor pair `name a name b`. View 2 begins with the number of folds and
    the number of genuine pairs of a fold, and lists each fold's genuine pairs, then as many impostor pairs. View 1 is
    one list, with its number of genuine pairs at the head or without; it is dealt into ten folds in its order, so that
    both views report a spread.

    Raises:
        FileNotFoundError: no such list.
        ValueError: not such a list.
    """
    lines = [line.split("\t") for line in existing(path).read_text().splitlines() if line.strip()]
    rows: list[Row] = []
    try:
        header = [int(field) for field in lines.pop(0)] if lines and len(lines[0]) < 3 else []
        for fields in lines:
            same = len(fields) == 3
            second = fields[0] if same else fields[2]
            rows.append(((fields[0], int(fields[1])), (second, int(fields[-1])), same, 0))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not an LFW list of pairs ({error})") from error
    if len(header) == 2:
        return [(*row[:3], number // (2 * header[1])) for number, row in enumerate(rows)]
    total = {same: sum(row[2] == same for row in rows) for same in (True, False)}
    seen = {True: 0, False: 0}
    dealt: list[Row] = []
    for row in rows:
        dealt.append((*row[:3], 10 * seen[row[2]] // total[row[2]]))
        seen[row[2]] += 1
    return dealt


def _held_out(listing: Listing, count: int) -> set[str]:
    names = sorted(set(listing.names))
    if count > max(0, len(names) - 1):
        raise ValueError(f"data.held_out is {count}, but data.extra has {len(names)} people")
    return {names[i] for i in np.random.default_rng(0).permutation(len(names))[:count]}


def _people(rows: list[Row]) -> set[str]:
    return {name for row in rows for name, _ in row[:2]}


def _protocol(listing: Listing, rows: list[Row], source: str) -> tuple[FaceSet, Pairs]:
    """All faces of the people of a list, and its pairs."""
    people = _people(rows)
    index = {path.stem: i for i, path in enumerate(_paths(listing, people))}
    return face_set(listing, people), _pairs(rows, index, source)


def _pairs(rows: list[Row], index: dict[str, int], source: str) -> Pairs:
    def find(name: str, number: int) -> int:
        stem = f"{name}_{number:04d}"
        if stem not in index:
            raise ValueError(f"data: {source} names {stem}, which is not among the images")
        return index[stem]

    return Pairs(
        left=np.array([find(*row[0]) for row in rows], dtype=np.int32),
        right=np.array([find(*row[1]) for row in rows], dtype=np.int32),
        same=np.array([row[2] for row in rows], dtype=bool),
        fold=np.array([row[3] for row in rows], dtype=np.int32),
    )


def _paths(listing: Listing, names: set[str]) -> list[Path]:
    return [path for path, name in zip(listing.files, listing.names, strict=True) if name in names]


def _only(listing: Listing, names: set[str]) -> Listing:
    return Listing(tuple(_paths(listing, names)), tuple(name for name in listing.names if name in names), listing.notes)


def _join(first: Listing, second: Listing) -> Listing:
    return Listing(first.files + second.files, first.names + second.names, first.notes + second.notes)


def _without_suspects(listing: Listing, files: list[Path]) -> Listing:
    suspects = set()
    for file in files:
        with existing(file).open(newline="") as lines:
            suspects |= {file.parent / "images" / row[0] for row in list(csv.reader(lines))[1:] if row}
    kept = [(path, name) for path, name in zip(listing.files, listing.names, strict=True) if path not in suspects]
    return Listing(tuple(path for path, _ in kept), tuple(name for _, name in kept), listing.notes)
