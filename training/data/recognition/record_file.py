"""InsightFace's training sets, `train.rec`, `train.idx` and `property`, read and written without MXNet.

A `.rec` file is a row of records (dmlc-core, `recordio.h`): the magic number, a word with the record's length in its
lower 29 bits, the data, zeros up to a multiple of four bytes. Data are a header (flag, label, two numbers), `flag`
further labels if there are any, and an encoded image (MXNet, `recordio.py`, `IRHeader`). The `.idx` file holds the key
and the place of each record. Record 0 holds two numbers: images have the keys from 1 up to the first, and from there to
the second there is a record for each person that tells the keys of their images. The file is mapped into memory, and
an image is decoded when asked for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.training.data.images import Image, existing, sampled_blocks
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.data.recognition.folders import decode_image

MAGIC = 0xCED7230A
_LENGTH = (1 << 29) - 1
_HEADER = struct.Struct("<IfQQ")
_WORD = 4
# Words from a record's begin to its data, and those of the data's header.
_PREFIX, _FIXED = 2, _HEADER.size // _WORD

Words = NDArray[np.uint32]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """The records of a file that hold images.

    Attributes:
        path: The `.rec` file.
        words: The file's words, mapped into memory.
        begins: `(N,)`, byte where each image begins.
        ends: `(N,)`, byte where it ends.
        labels: `(N,)`, its first label.
    """

    path: Path
    words: Words
    begins: Places
    ends: Places
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, index: int, /) -> Image:
        image = decode_image(self.encoded(index))
        if image is None:
            raise ValueError(f"{self.path}: image {index} is not readable; copy the file again")
        return image

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """The bytes of an image as they are stored."""
        found: NDArray[np.uint8] = self.words.view(np.uint8)[self.begins[index] : self.ends[index]]
        return found


def open_records(folder: Path, name: str = "train") -> FaceSet:
    """The faces of a set; people are named by their number, or as `NAME.lst` beside it has them.

    Raises:
        FileNotFoundError: the `.rec` or `.idx` file is not there.
        ValueError: either is not whole, or they do not belong together.
    """
    path = existing(folder / f"{name}.rec")
    keys, places = _read_index(existing(folder / f"{name}.idx"))
    size = path.stat().st_size
    if size % _WORD or size < _WORD * (_PREFIX + _FIXED):
        raise ValueError(f"{path}: {size:,} bytes are no whole number of records; copy the file again")
    words: Words = np.memmap(path, dtype="<u4", mode="r")
    if words[0] != MAGIC:
        raise ValueError(f"{path}: it begins with {words[0]:#010x}, a RecordIO file with {MAGIC:#010x}")
    records = _read_headers(path, words, places)
    people = _images_of_people(records, keys)
    if people is not None:
        images = _chosen(records, (keys > 0) & (keys < people[0]))
        _check_order(records, keys, people)
    else:
        images = records
    return _face_set(images, folder / f"{name}.lst")


def records_fingerprint(folder: Path, name: str = "train") -> bytes:
    """A digest of the index, the file's size, and a thousand blocks of bytes spread over it."""
    path, index = existing(folder / f"{name}.rec"), existing(folder / f"{name}.idx")
    total = hashlib.sha256(index.read_bytes() + str(path.stat().st_size).encode())
    for extra in (folder / f"{name}.lst", folder / "property"):
        total.update(extra.read_bytes() if extra.is_file() else b"")
    for block in sampled_blocks(path):
        total.update(block)
    return total.digest()


def write_records(folder: Path, faces: FaceSet, encoded: Iterator[NDArray[np.uint8]], name: str = "train") -> None:
    """Writes a set as InsightFace's tools do, each file atomically, the `.idx` last.

    The images of a person must follow each other. `NAME.lst` keeps the names of people and images.

    Args:
        encoded: bytes of each image, in the order of `faces`.

    Raises:
        ValueError: the images are not in the order of their people.
    """
    labels = faces.labels
    if np.any(np.diff(labels) < 0) or len(labels) == 0 or labels[0] < 0:
        raise ValueError("a .rec file wants the images of each person one after the other, and all of them named")
    count, people = len(labels), len(faces.identities)
    with ExitStack() as stack:
        partial = {kind: stack.enter_context(atomic(folder / f"{name}.{kind}")) for kind in ("lst", "rec", "idx")}
        rec, idx, lst = (stack.enter_context(partial[kind].open("wb")) for kind in ("rec", "idx", "lst"))

        def write(key: int, label: float, more: Sequence[float], content: bytes) -> None:
            idx.write(f"{key}\t{rec.tell()}\n".encode())
            data = _HEADER.pack(len(more), label, key, 0) + np.array(more, "<f4").tobytes() + content
            if len(data) > _LENGTH:
                raise ValueError(f"image {key} has {len(data):,} bytes, a record at most {_LENGTH:,}")
            rec.write(struct.pack("<II", MAGIC, len(data)) + data + bytes(-len(data) % _WORD))

        write(0, 0.0, (count + 1, count + 1 + people), b"")
        for key, (label, content) in enumerate(zip(labels.tolist(), encoded, strict=True), start=1):
            write(key, float(label), (), content.tobytes())
            lst.write(f"{key}\t{label}\t{faces.identities[label]}/{key:08d}\n".encode())
        bounds = np.searchsorted(labels, np.arange(people + 1)) + 1
        for person in range(people):
            write(count + 1 + person, 0.0, (bounds[person], bounds[person + 1]), b"")
    with atomic(folder / "property") as file:
        file.write_text(f"{people},112,112\n")


def _read_index(path: Path) -> tuple[Places, Places]:
    """Keys, ascending, and the place of each record."""
    try:
        # In NumPy: half a million lines in a tenth of a second.
        numbers = np.fromfile(path, dtype=np.int64, sep=" ")
    except ValueError as error:
        raise ValueError(f"{path}: not an index, lines of a key and a place") from error
    whole = path.read_bytes().count(b"\n")
    if len(numbers) % 2 or not len(numbers) or abs(whole - len(numbers) // 2) > 1:
        raise ValueError(f"{path}: not a whole index, lines of a key and a place; copy it again")
    keys, places = numbers.reshape(-1, 2).T
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    if np.any(np.diff(keys) == 0) or len(np.unique(places)) < len(places):
        raise ValueError(f"{path}: a key or a place stands in it twice; copy it again")
    return keys, places


def _read_headers(path: Path, words: Words, places: Places) -> Records:
    """All headers at once: each word of all of them is one operation of NumPy."""
    wrong = (places < 0) | (places % _WORD != 0) | (places // _WORD + _PREFIX + _FIXED > len(words))
    if wrong.any():
        raise ValueError(
            f"{path}: its index names a record at byte {places[wrong][0]:,}, the file has {4 * len(words):,}; it is "
            "truncated, or the index is another file's: copy both again"
        )
    at = places // _WORD
    if (bad := words[at] != MAGIC).any():
        raise ValueError(
            f"{path}: no record begins at byte {places[bad][0]:,}, where the index has one; the index is another "
            "file's, or the file is damaged: copy both again"
        )
    lengths = (words[at + 1] & _LENGTH).astype(np.int64)
    if (split := words[at + 1] >> 29 != 0).any():
        raise ValueError(f"{path}: the record at byte {places[split][0]:,} is in several parts, which is not read")
    begins, ends = places + _WORD * _PREFIX + _HEADER.size, places + _WORD * _PREFIX + lengths
    if (over := ends > _WORD * len(words)).any():
        raise ValueError(f"{path}: the record at byte {places[over][0]:,} is truncated; copy the file again")
    further = words[at + _PREFIX].astype(np.int64)
    begins = begins + _WORD * further
    if (over := begins > ends).any():
        raise ValueError(f"{path}: the record at byte {places[over][0]:,} is damaged; copy the file again")
    floats = words.view("<f4")
    # Where there are further labels, the first of them stands for the one of the header.
    label = np.where(further > 0, at + _PREFIX + _FIXED, at + _PREFIX + 1)
    return Records(path, words, begins, ends, floats[label])


def _images_of_people(records: Records, keys: Places) -> tuple[int, int] | None:
    """The keys from which on records are people, and the end of these; `None` where all records are images."""
    if keys[0] != 0 or records.begins[0] != records.ends[0]:
        return None
    first, end = records.words.view("<f4")[records.begins[0] // _WORD - 2 :][:2].astype(np.int64).tolist()
    return int(first), int(end)


def _check_order(records: Records, keys: Places, people: tuple[int, int]) -> None:
    """Raises ValueError where the images of a person, by the records of people, have several labels."""
    first, end = people
    wanted = np.arange(first, end)
    rows = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    if not np.array_equal(keys[rows], wanted):
        raise ValueError(f"{records.path}: its index lacks records of people; copy both again")
    floats = records.words.view("<f4")
    bounds = np.stack([floats[records.begins[rows] // _WORD - 2], floats[records.begins[rows] // _WORD - 1]]).astype(
        int
    )
    filled = records.begins[rows] != records.ends[rows]
    inside = (bounds[0] >= 1) & (bounds[0] <= bounds[1]) & (bounds[1] <= first)
    low, high = np.searchsorted(keys, bounds)
    changes = np.concatenate([[0], np.cumsum(np.diff(records.labels) != 0)])
    several = inside & (high > low) & (changes[np.maximum(high - 1, low)] != changes[low])
    if filled.any() or not inside.all() or several.any():
        raise ValueError(
            f"{records.path}: its index is another file's, or shuffled: images of one person have several labels; copy "
            "both again"
        )


def _chosen(records: Records, chosen: NDArray[np.bool_]) -> Records:
    return Records(records.path, records.words, records.begins[chosen], records.ends[chosen], records.labels[chosen])


def _face_set(images: Records, listing: Path) -> FaceSet:
    known, labels = np.unique(images.labels.astype(np.int64), return_inverse=True)
    names = _names(listing) if listing.is_file() else {}
    identities = tuple(names.get(int(label), f"{label:07d}") for label in known)
    return FaceSet(images, labels.astype(np.int32), identities)


def _names(listing: Path) -> dict[int, str]:
    """The folder's name of each label, of a list as MXNet's `im2rec` has it: key, label, path."""
    names: dict[int, str] = {}
    line = ""
    try:
        with listing.open(encoding="utf-8") as lines:
            for line in lines:
                _, label, path = line.rstrip("\n").split("\t")
                names.setdefault(int(float(label)), path.rpartition("/")[0])
    except ValueError as error:
        raise ValueError(
            f"{listing}: expected lines of a key, a label and a path; got {line[:60].rstrip()!r}. Remove the file, and "
            "people are named by their numbers"
        ) from error
    return names
