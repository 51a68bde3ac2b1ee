"""WebDataset's shards: tar files of images, read in any order.

A sample is the files of one name, `KEY.jpg` and `KEY.cls` with its label (https://github.com/webdataset/webdataset).
Where keys have a folder, `person/0001.jpg`, this is the person. Beside each `x.tar` there may be `x.idx`, an index as
NVIDIA DALI's `wds2idx` writes it, which saves walking through the tar file. Shards are mapped into memory.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.training.data.images import Image, sampled_blocks
from slimcam.training.data.recognition.encoded import Bytes, suffix_of
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.data.recognition.folders import EXTENSIONS, decode_image

INDEX = "v1.2"
"""Version of the index, its first word."""

_BLOCK = 512
# Where a tar header has the mark of its format.
_MARK = 257
# Of each file of a sample its suffix, place, size and name, in which there may be spaces.
_LISTED = re.compile(r"\S+ (\d+) (\d+) (.+?)(?= \S+ \d+ \d+ |$)")


@dataclass(frozen=True)
class Member:
    """A file inside a shard: its name, and the bytes where its content begins and ends."""

    name: str
    begin: int
    end: int


class ShardImages:
    """The images of shards, decoded when asked for."""

    def __init__(
        self, shards: Sequence[tuple[Path, Bytes]], numbers: NDArray[np.int32], places: NDArray[np.int64]
    ) -> None:
        self._shards, self._numbers, self._places = shards, numbers, places

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int, /) -> Image:
        image = decode_image(self.encoded(index))
        if image is None:
            path = self._shards[self._numbers[index]][0]
            raise ValueError(f"{path}: the image at byte {self._places[index, 0]:,} is not readable; copy it again")
        return image

    def encoded(self, index: int) -> Bytes:
        """The bytes of an image as they are stored."""
        begin, end = self._places[index]
        content: Bytes = self._shards[self._numbers[index]][1][begin:end]
        return content


def open_shards(folder: Path) -> FaceSet:
    """The faces of all shards of a folder, in the order of their names.

    Raises:
        FileNotFoundError: there is no `.tar` file.
        ValueError: a shard or its index is not whole, or does not name a person for each image.
    """
    paths = _shards(folder)
    shards = [(path, np.memmap(path, dtype=np.uint8, mode="r")) for path in paths if path.stat().st_size]
    with ThreadPoolExecutor() as pool:
        members = list(pool.map(lambda shard: _members(*shard), shards))
    numbers: list[int] = []
    places: list[tuple[int, int]] = []
    people: list[str] = []
    for number, ((path, content), found) in enumerate(zip(shards, members, strict=True)):
        classes = {_key(each.name): each for each in found if each.name.endswith(".cls")}
        for each in found:
            key = _key(each.name)
            if f".{each.name.rpartition('.')[2].lower()}" not in EXTENSIONS:
                continue
            person = key.rpartition("/")[0]
            if not person:
                if key not in classes:
                    raise ValueError(f"{path}: {each.name} has neither a folder nor a .cls file that says who it shows")
                person = content[classes[key].begin : classes[key].end].tobytes().decode().strip()
            numbers.append(number)
            places.append((each.begin, each.end))
            people.append(person)
    if not people:
        raise ValueError(f"{folder}: there is no image in its {len(paths)} shards")
    identities, labels = np.unique(people, return_inverse=True)
    images = ShardImages(shards, np.array(numbers, np.int32), np.array(places, np.int64))
    return FaceSet(images, labels.astype(np.int32), tuple(identities.tolist()))


def shards_fingerprint(folder: Path) -> bytes:
    """A digest of the shards' names and sizes, and of a thousand blocks spread over each."""
    total = hashlib.sha256()
    for path in _shards(folder):
        total.update(f"{path.name} {path.stat().st_size}\n".encode())
        for block in sampled_blocks(path):
            total.update(block)
    return total.digest()


def write_shards(folder: Path, faces: FaceSet, encoded: Iterator[Bytes], size: int = 10_000) -> None:
    """Writes a set as shards of `size` images, each with its index, atomically.

    Args:
        encoded: bytes of each image, in the order of `faces`.
    """
    pairs = zip(faces.labels.tolist(), encoded, strict=True)
    for number in range(-(-len(faces) // size)):
        path = folder / f"{number:06d}.tar"
        lines = []
        with atomic(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as shard:
            for place in range(number * size, min((number + 1) * size, len(faces))):
                label, content = next(pairs)
                key = f"{faces.identities[label]}/{place:08d}"
                words = []
                for suffix, data in ((suffix_of(content), content.tobytes()), ("cls", str(label).encode())):
                    entry = tarfile.TarInfo(f"{key}.{suffix}")
                    entry.size = len(data)
                    words.append(f"{suffix} {shard.offset + _BLOCK} {len(data)} {entry.name}")
                    shard.addfile(entry, io.BytesIO(data))
                lines.append(" ".join(words))
        with atomic(path.with_suffix(".idx")) as partial:
            partial.write_text("\n".join([f"{INDEX} {len(lines)}", *lines]) + "\n")


def _shards(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise FileNotFoundError(f"{folder}: there is no .tar file in it")
    return paths


def _members(path: Path, content: Bytes) -> list[Member]:
    """The files inside a shard, by its index if there is one."""
    index = path.with_suffix(".idx")
    if not index.is_file():
        return _walked(path)
    found = _listed(index)
    begins = np.array([each.begin for each in found], np.int64)
    ends = np.array([each.end for each in found], np.int64)
    if len(found) and (begins.min() < _BLOCK or ends.max() > len(content)):
        raise ValueError(f"{path} is truncated, or {index.name} is the index of another file; copy both again")
    heads = begins[:, None] - _BLOCK + _MARK + np.arange(5)
    if not np.all(content[heads] == np.frombuffer(b"ustar", np.uint8)):
        raise ValueError(f"{path}: {index.name} names files where none begin; it is the index of another file")
    return found


def _listed(index: Path) -> list[Member]:
    lines = index.read_text(encoding="utf-8").splitlines()
    try:
        version, count = lines[0].split()
        if version != INDEX or int(count) != len(lines) - 1:
            raise ValueError(f"{len(lines) - 1} samples of {count}")
        found = []
        for line in lines[1:]:
            files = _LISTED.findall(line)
            if not files:
                raise ValueError(f"no file in {line!r}")
            found += [Member(name, int(begin), int(begin) + int(size)) for begin, size, name in files]
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{index}: not a whole index of version {INDEX} ({error}); delete it or write it again"
        ) from error
    return found


def _walked(path: Path) -> list[Member]:
    try:
        with tarfile.open(path, "r:") as shard:
            return [
                Member(entry.name, entry.offset_data, entry.offset_data + entry.size)
                for entry in shard
                if entry.isfile()
            ]
    except tarfile.TarError as error:
        raise ValueError(f"{path}: not a whole tar file ({error}); copy it again") from error


def _key(name: str) -> str:
    """What the files of a sample have in common: up to the first dot of the last part."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]
