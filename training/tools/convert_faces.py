"""Labeled faces from one format to another, the images byte for byte.

    python -m slimcam.training.tools.convert_faces FACES OUT --to records     a folder of people to train.rec, train.idx
    python -m slimcam.training.tools.convert_faces RECORDS OUT --to folders   and back
    python -m slimcam.training.tools.convert_faces FACES OUT --to shards      WebDataset's tar files
    python -m slimcam.training.tools.convert_faces pairs.txt OUT/lfw.bin      a list of pairs to a verification pack
    python -m slimcam.training.tools.convert_faces lfw.bin OUT                and back

What FACES is, is seen by what it holds: train.rec, .tar files, or a folder for each person. The images of a list are in
images/ beside it, or where --images says. A pack has no names: going back gives each pair people of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import atomic_folder, write_text
from slimcam.training.data.images import Selection
from slimcam.training.data.recognition import lfw, verification_pack
from slimcam.training.data.recognition.encoded import encoded, suffix_of
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.data.recognition.folders import face_set, scan
from slimcam.training.data.recognition.record_file import open_records, write_records
from slimcam.training.data.recognition.shards import open_shards, write_shards
from slimcam.training.fit.progress import Progress

FORMATS = ("folders", "records", "shards")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.convert_faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=FORMATS, help="format of a set of faces")
    parser.add_argument("--images", type=Path, help="folder of a list's images")
    parser.add_argument("--size", type=int, default=10_000, help="images of a shard (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        show(convert(options.source, options.out, options.to, options.images, options.size))
    except (ValueError, OSError) as error:
        sys.exit(f"convert_faces: {error}")


def convert(source: Path, out: Path, to: str | None = None, images: Path | None = None, size: int = 10_000) -> str:
    """Converts, and says in a line what was written.

    Raises:
        FileNotFoundError: the source is not there.
        ValueError: it is none of the formats or damaged, or no target is named.
    """
    if source.suffix == ".bin":
        return _from_pack(source, out)
    if source.is_file():
        return _to_pack(source, images or source.parent / "images", out)
    if to is None:
        raise ValueError(f"{source} is a set of faces: to which format? give --to {', '.join(FORMATS)}")
    faces = _in_order(open_faces(source))
    contents = _contents(faces)
    if to == "records":
        write_records(out, faces, contents)
    elif to == "shards":
        write_shards(out, faces, contents, size)
    else:
        _write_folders(out, faces, contents)
    return f"{out}: {len(faces):,} images of {len(faces.identities):,} people, as {to}"


def open_faces(folder: Path) -> FaceSet:
    """The faces of a folder, whichever format they are in.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: a file is damaged, or there is no image.
    """
    if (folder / "train.rec").is_file():
        return open_records(folder)
    if any(folder.glob("*.tar")):
        return open_shards(folder)
    listing = scan([folder])
    if not listing.files:
        raise ValueError(f"{folder}: no train.rec, no .tar file, and no folder with images in it")
    return face_set(listing, set(listing.names))


def _in_order(faces: FaceSet) -> FaceSet:
    """The faces with the images of each person one after the other."""
    order = np.argsort(faces.labels, kind="stable")
    if np.array_equal(order, np.arange(len(order))):
        return faces
    return FaceSet(Selection(faces.images, order), faces.labels[order], faces.identities)


def _contents(faces: FaceSet) -> Iterator[NDArray[np.uint8]]:
    progress = Progress(len(faces), "faces", unit="images")
    for index in range(len(faces)):
        yield encoded(faces.images, index)
        progress.advance(1)
    progress.close()


def _require_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose another one")


def _write_folders(out: Path, faces: FaceSet, contents: Iterator[NDArray[np.uint8]]) -> None:
    _require_empty(out)
    with atomic_folder(out) as new:
        for place, (label, content) in enumerate(zip(faces.labels.tolist(), contents, strict=True)):
            path = new / faces.identities[label] / f"{place:08d}.{suffix_of(content)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)


def _to_pack(source: Path, images: Path, out: Path) -> str:
    found, _ = lfw.load_pairs(source, images)
    pairs = found.pairs
    # A pack is dealt into folds in its order.
    order = np.argsort(pairs.fold, kind="stable")
    rows = np.stack([pairs.left, pairs.right], axis=1)[order].ravel()
    contents = [encoded(found.faces.images, int(index)).tobytes() for index in rows]
    verification_pack.write(out, contents, pairs.same[order])
    return f"{out}: {len(pairs):,} pairs"


def _from_pack(source: Path, out: Path) -> str:
    found = verification_pack.read(source)
    _require_empty(out)
    lines = []
    with atomic_folder(out) as new:
        for pair, same in enumerate(found.pairs.same.tolist()):
            name = f"pair{pair:06d}"
            people = (name, name) if same else (f"{name}a", f"{name}b")
            lines.append(f"{name}\t1\t2" if same else f"{people[0]}\t1\t{people[1]}\t2")
            for number, person in enumerate(people, start=1):
                content = encoded(found.faces.images, 2 * pair + number - 1)
                path = new / "images" / person / f"{person}_{number:04d}.{suffix_of(content)}"
                path.parent.mkdir(parents=True, exist_ok=True)
                content.tofile(path)
        write_text(new / "pairs.txt", "\n".join(lines) + "\n")
    return f"{out}: {len(lines):,} pairs in pairs.txt, their images in images/"


if __name__ == "__main__":
    main()
