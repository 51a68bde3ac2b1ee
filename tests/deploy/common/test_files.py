from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from slimcam.deploy.common.files import atomic, atomic_folder, cache_folder, write_text


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"

    def fail() -> None:
        with atomic(path) as partial:
            partial.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(path.parent.iterdir())
    with atomic(path) as partial:
        assert not path.exists()
        assert partial.suffix == ".txt"
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_nobody_else_may_read_a_private_file_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic(path, mode=0o600) as partial:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
        partial.write_text("secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_durable_file_is_synced_before_it_gets_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic(path, durable=True) as partial:
        partial.write_text("whole")
    assert synced == [(False, False), (True, True)]


def test_threads_that_write_one_file_at_once_do_not_mix(tmp_path: Path) -> None:
    path, both = tmp_path / "file", threading.Barrier(2)

    def write(text: str) -> None:
        with atomic(path) as partial:
            partial.write_text(text)
            both.wait(10)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 1000, "b" * 1000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_full_one_or_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_text(folder / "old", "old")

    def fail() -> None:
        with atomic_folder(folder) as partial:
            (partial / "new").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [file.name for file in folder.iterdir()] == ["old"]
    with atomic_folder(folder) as partial:
        (partial / "new").write_text("new")
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMCAM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SLIMCAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "slimcam"
