from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.common.errors import WrongKeyError
from slimcam.deploy.gallery.encryption import (
    Cipher,
    check_outside,
    default_gallery,
    default_key,
    make_key,
    read_key,
)

ROOT = Path(__file__).resolve().parents[3]
KEY = bytes(range(32))


@given(st.binary(max_size=300), st.lists(st.text(max_size=5) | st.none() | st.floats(allow_nan=False), max_size=4))
def test_a_content_is_decrypted_with_its_associated_data_only(content: bytes, place: list[object]) -> None:
    cipher = Cipher(KEY)
    encrypted = cipher.encrypt(content, *place)
    assert cipher.decrypt(encrypted, *place) == content
    for other in ([*place, "x"], ["x", *place]):
        with pytest.raises(ValueError, match="another place"):
            cipher.decrypt(encrypted, *other)


def test_borders_of_places_count() -> None:
    cipher = Cipher(KEY)
    with pytest.raises(ValueError, match="another place"):
        cipher.decrypt(cipher.encrypt(b"", "a", "bc"), "ab", "c")


def test_every_altered_or_missing_byte_is_noticed() -> None:
    cipher = Cipher(KEY)
    encrypted = cipher.encrypt(b"face", "here")
    for i in range(len(encrypted)):
        for damaged in (encrypted[:i] + bytes([encrypted[i] ^ 1]) + encrypted[i + 1 :], encrypted[:i]):
            with pytest.raises(ValueError, match="altered"):
                cipher.decrypt(damaged, "here")
    with pytest.raises(ValueError, match="another key"):
        Cipher(bytes(32)).decrypt(encrypted, "here")


def test_the_same_content_is_never_encrypted_the_same() -> None:
    cipher = Cipher(KEY)
    assert len({cipher.encrypt(b"face", "here")[:12] for _ in range(1000)}) == 1000


def test_a_key_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "conf/slimcam/gallery.key"
    key = make_key(path)
    assert len(key) == 32
    assert make_key(path) == read_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["gallery.key"]
    assert make_key(tmp_path / "other.key") != key


def test_processes_that_begin_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "conf/gallery.key"
    code = (
        "import sys; sys.stdin.read(1); from slimcam.deploy.gallery.encryption import *; "
        f"print(make_key(Path({str(path)!r})).hex())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    assert {process.communicate()[0].decode().strip() for process in processes} == {read_key(path).hex()}


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, bytes(32), "é".encode() * 32])
def test_a_file_that_is_no_key_is_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "gallery.key"
    path.write_bytes(content)
    path.chmod(0o600)
    for call in (read_key, make_key):
        with pytest.raises(WrongKeyError, match="not a gallery's key"):
            call(path)
    assert path.read_bytes() == content


def test_a_key_that_others_may_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gallery.key"
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        read_key(path)


def test_a_missing_key_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no key"):
        read_key(tmp_path / "gallery.key")
    assert not list(tmp_path.iterdir())


def test_a_key_must_lie_outside_of_the_gallerys_folder(tmp_path: Path) -> None:
    gallery = tmp_path / "data/gallery.db"
    gallery.parent.mkdir()
    (tmp_path / "link").symlink_to(gallery.parent)
    check_outside(tmp_path / "gallery.key", gallery)
    check_outside(tmp_path / "data2/gallery.key", gallery)
    for inside in ("data/gallery.key", "data/deep/gallery.key", "link/gallery.key", "x/../data/gallery.key"):
        with pytest.raises(ValueError, match="lies in the folder of the gallery"):
            check_outside(tmp_path / inside, gallery)


def test_defaults_follow_the_base_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_key() == tmp_path / "c/slimcam/gallery.key"
    assert default_gallery() == tmp_path / ".local/share/slimcam/gallery.db"
