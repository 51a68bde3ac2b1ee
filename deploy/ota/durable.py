"""Files that survive a power failure: written beside, synced, renamed, and the rename synced too.

`os.replace` alone is atomic, not durable: after a power failure the new name may have an empty file behind it, or the
old name may be back (https://lwn.net/Articles/457667/).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from slimcam.deploy.common.files import sync


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file; when this returns the new content survives a power failure, before that the old one does.

    Unlike `slimcam.deploy.common.files.atomic` it has a fixed temporary name, so that writers which were killed leave
    nothing that piles up on a device; there must be one writer at a time.
    """
    partial = path.with_name(f".{path.name}.partial")
    _write_synced(partial, content)
    partial.replace(path)
    sync(path.parent)


def write_folder_durably(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with the files, durable when this returns; what was there under its name is removed first.

    Unlike a file it is not replaced atomically: whoever refers to the folder must do so durably after this returns.
    """
    remove_folder(folder)
    folder.mkdir()
    for name, content in files.items():
        _write_synced(folder / name, content)
    sync(folder)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def remove_folder(folder: Path) -> None:
    """Removes a folder with all that is in it, durably; one that is not there is removed already."""
    if folder.exists():
        shutil.rmtree(folder)
        sync(folder.parent)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
