"""A file in pieces below a size limit, for ways that carry no large one.

    python -m slimcam.training.tools.split_file split FILE FOLDER [--mib 60]
    python -m slimcam.training.tools.split_file join FOLDER FILE

`FOLDER` gets the pieces and `pieces.json`, which names them in order with their sizes and SHA-256 digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from slimcam.deploy.common.files import atomic, write_text

INDEX = "pieces.json"
MIB = 2**20


def split(file: Path, folder: Path, size: int = 60 * MIB) -> list[Path]:
    """Cuts a file into pieces of at most `size` bytes, `<name>.000`, `<name>.001`, ..., and the index `pieces.json`.

    Returns:
        The pieces, in order.

    Raises:
        FileNotFoundError: no such file.
        FileExistsError: the folder holds something already.
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"pieces of {size} bytes cannot be made; give a size above 0")
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    # Pieces of another file, or of another size, must not lie among those of this one.
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give another folder, or empty it")
    digest = hashlib.sha256()
    entries: list[dict[str, Any]] = []
    with file.open("rb") as whole:
        while not entries or whole.peek(1):
            name = f"{file.name}.{len(entries):03d}"
            with atomic(folder / name) as partial, partial.open("wb") as piece:
                count, own = _copy(whole, piece, size, digest)
            entries.append({"name": name, "bytes": count, "sha256": own})
    # Written last: pieces without it are known to be incomplete.
    index = {"name": file.name, "sha256": digest.hexdigest(), "pieces": entries}
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    return [folder / entry["name"] for entry in entries]


def join(folder: Path, file: Path) -> None:
    """Puts the pieces of a folder together again; the file is there whole or not at all.

    Raises:
        FileNotFoundError: no index, or a piece is missing.
        ValueError: the index is none, or a piece is not what was split off.
    """
    index = _read_index(folder)
    missing = [entry["name"] for entry in index["pieces"] if not (folder / entry["name"]).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; carry what is missing there")
    digest = hashlib.sha256()
    with atomic(file) as partial, partial.open("wb") as out:
        for entry in index["pieces"]:
            with (folder / entry["name"]).open("rb") as piece:
                # One byte more than there should be tells a longer file.
                count, own = _copy(piece, out, entry["bytes"] + 1, digest)
            if (count, own) != (entry["bytes"], entry["sha256"]):
                raise ValueError(f"{folder / entry['name']} was damaged on its way; carry it there again")
        if digest.hexdigest() != index["sha256"]:
            raise ValueError(f"{folder / INDEX} does not belong to these pieces; split the file again")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; what is wrong is said in one line, with exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.split_file", description="A file in pieces, and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    cut = commands.add_parser("split", help="cut FILE into pieces")
    cut.add_argument("file", type=Path)
    cut.add_argument("folder", type=Path)
    cut.add_argument("--mib", type=float, default=60.0, help="largest size of a piece, in MiB (default 60)")
    paste = commands.add_parser("join", help="put the pieces in FOLDER together")
    paste.add_argument("folder", type=Path)
    paste.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "split":
            print(f"{len(split(given.file, given.folder, int(given.mib * MIB)))} pieces in {given.folder}")
        else:
            join(given.folder, given.file)
            print(f"{given.file} is whole")
    except (ValueError, OSError) as error:
        sys.exit(f"pieces: {error}")


def _copy(source: BinaryIO, target: BinaryIO, limit: int, digest: Any) -> tuple[int, str]:
    """Copies at most `limit` bytes, adds them to `digest`, and gives their number and SHA-256."""
    own, count = hashlib.sha256(), 0
    while block := source.read(min(MIB, limit - count)):
        target.write(block)
        own.update(block)
        digest.update(block)
        count += len(block)
    return count, own.hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {INDEX}; split a file into it, or carry {INDEX} there as well")
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        # A name with a folder in it would reach outside.
        whole = bool(index["sha256"]) and all(
            Path(entry["name"]).name == entry["name"] and entry["bytes"] >= 0 and entry["sha256"]
            for entry in index["pieces"]
        )
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is not an index of pieces; carry it there again")
    return index


if __name__ == "__main__":
    main()
