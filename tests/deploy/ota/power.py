"""A disk that loses what was not synced, and a process that dies at a chosen operation on it.

A loss of power is simulated as file systems define durability: of a file survives what was there at its last fsync, of
a folder the names at its last fsync. Whatever was not synced may have reached the disk or not, each name and file as
chance has it: an unsynced file is empty, cut off or whole.

The shadow keeps, by inode, contents of files and names in folders as of their last fsync. The folder should be on
tmpfs, which uses no inode number twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class Disk:
    """What is durable of a folder.

    Args:
        root: the folder.
        shadow: where that is kept, outside of it.
    """

    def __init__(self, root: Path, shadow: Path) -> None:
        self.root, self._shadow = root, shadow
        self.operations = 0
        self._fatal = 0

    def settle(self) -> None:
        """All that is there is durable from now on."""
        shutil.rmtree(self._shadow, ignore_errors=True)
        self._shadow.mkdir(parents=True)
        self.root.mkdir(parents=True, exist_ok=True)
        for path in (self.root, *self.root.rglob("*")):
            if not path.is_symlink():
                self._sync(path)

    def watch(self, fatal: int) -> None:
        """In this process: takes note of syncs, and dies just before its n-th operation on the folder; 0 is never."""
        self._fatal = fatal
        os.fsync = self._fsync  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def step(self) -> None:
        """An operation: the last one of a process that is to die here."""
        self.operations += 1
        if self.operations == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def lose_power(self, chance: random.Random) -> None:
        """Leaves of the folder what a loss of power leaves."""
        contents = {
            path.stat().st_ino: path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        survivors: dict[Path, bytes | None] = {}
        self._collect(self.root, self.root.stat().st_ino, contents, survivors, chance)
        shutil.rmtree(self.root)
        self.root.mkdir()
        for path, content in survivors.items():
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content)
        self.settle()

    def _collect(
        self,
        folder: Path,
        inode: int,
        contents: dict[int, bytes],
        survivors: dict[Path, bytes | None],
        chance: random.Random,
    ) -> None:
        listing = self._shadow / f"{inode}.names"
        names: dict[str, tuple[int, bool]] = json.loads(listing.read_text()) if listing.exists() else {}
        now = _names(folder) if folder.is_dir() and folder.stat().st_ino == inode else {}
        for name in sorted(names.keys() | now.keys()):
            # Each change of a name reached the disk or did not.
            found = (now if chance.random() < 0.5 else names).get(name)
            if found is None:
                continue
            number, is_folder = found
            if is_folder:
                survivors[folder / name] = None
                self._collect(folder / name, number, contents, survivors, chance)
                continue
            synced = self._shadow / f"{number}.content"
            if synced.exists():
                survivors[folder / name] = synced.read_bytes()
            else:
                content = contents.get(number, b"")
                survivors[folder / name] = content[
                    : chance.choice((0, chance.randrange(len(content) + 1), len(content)))
                ]

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(self.root):
            self.step()
            self._sync(path)
            self.step()

    def _sync(self, path: Path) -> None:
        found = path.stat()
        partial = self._shadow / "partial"
        if stat.S_ISDIR(found.st_mode):
            partial.write_text(json.dumps(_names(path)))
            partial.replace(self._shadow / f"{found.st_ino}.names")
        else:
            shutil.copyfile(path, partial)
            partial.replace(self._shadow / f"{found.st_ino}.content")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR) and self._inside(path, -1):
                self.step()
        elif event in CHANGES and self._inside(arguments[0], arguments[-1]):
            self.step()

    def _inside(self, path: Any, folder: Any) -> bool:
        name = os.fsdecode(path)
        if not name.startswith("/") and isinstance(folder, int) and folder >= 0:
            name = f"{Path(f'/proc/self/fd/{folder}').readlink()}/{name}"
        return name.startswith(f"{self.root}/")


def _names(folder: Path) -> dict[str, tuple[int, bool]]:
    """Inode, and whether it is a folder, of what is in one."""
    return {path.name: (path.lstat().st_ino, path.is_dir()) for path in folder.iterdir() if not path.is_symlink()}
