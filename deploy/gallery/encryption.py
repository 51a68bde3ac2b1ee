"""The gallery's encryption: AES-256-GCM, and the key, which lives in a file outside of the gallery's folder."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from slimcam.deploy.common.errors import WrongKeyError
from slimcam.deploy.common.files import atomic

KEY_BYTES = 32
NONCE_BYTES = 12


class Cipher:
    """Authenticated encryption with associated data (AEAD): AES-256-GCM.

    Nonces are random: NIST SP 800-38D, 8.3, allows 2^32 of them with one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def encrypt(self, content: bytes, *associated: object) -> bytes:
        """Encrypts a content; gives the nonce and the ciphertext with its tag.

        Args:
            content: Bytes to encrypt.
            associated: Numbers and texts that are authenticated and not stored, for example column and row; `decrypt`
                needs the same.
        """
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, content, _bytes(associated))

    def decrypt(self, encrypted: bytes, *associated: object) -> bytes:
        """The content that was encrypted with this key and associated data.

        Raises:
            ValueError: The key or the associated data is another one, or the ciphertext was altered.
        """
        try:
            return self._aead.decrypt(encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:], _bytes(associated))
        except (InvalidTag, ValueError) as error:
            raise ValueError("encrypted with another key or for another place, or altered") from error


def default_key() -> Path:
    """`~/.config/slimcam/gallery.key`, or below `XDG_CONFIG_HOME`."""
    return _base("XDG_CONFIG_HOME", ".config") / "slimcam/gallery.key"


def default_gallery() -> Path:
    """`~/.local/share/slimcam/gallery.db`, or below `XDG_DATA_HOME`."""
    return _base("XDG_DATA_HOME", ".local/share") / "slimcam/gallery.db"


def check_outside(key: Path, gallery: Path) -> None:
    """Refuses a key that whoever copies the gallery's folder would copy with it.

    Raises:
        ValueError: the key lies in the gallery's folder or below.
    """
    if key.resolve().is_relative_to(gallery.resolve().parent):
        raise ValueError(
            f"the key {key} lies in the folder of the gallery {gallery}, so that a copy of the folder could be read; "
            "keep them in folders of their own (key=FILE, gallery=FILE)"
        )


def read_key(path: Path) -> bytes:
    """The key in a file.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: other users may read it.
        ValueError: it holds no key.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: there is no key, and without its key a gallery cannot be read; bring the key back, "
            "or remove the gallery and enroll again"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise PermissionError(f"{path}: other users may open the key; chmod 600 it")
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WrongKeyError(
            f"{path}: not a gallery's key ({2 * KEY_BYTES} hexadecimal digits); bring the right file back"
        )
    return key


def make_key(path: Path) -> bytes:
    """The key in a file; a random one is written where there is none, readable by this user alone.

    Raises:
        OSError: the file cannot be written.
        PermissionError, ValueError: as `read_key`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two processes that begin at once must end up with one key.
    with _locked(path.parent):
        if not path.exists():
            with atomic(path, durable=True, mode=0o600) as partial:
                partial.write_text(secrets.token_hex(KEY_BYTES) + "\n")
        return read_key(path)


def _base(variable: str, default: str) -> Path:
    # https://specifications.freedesktop.org/basedir-spec: relative paths are to be ignored.
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else Path.home() / default


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bytes(associated: tuple[object, ...]) -> bytes:
    # JSON keeps the borders: ("a", "bc") and ("ab", "c") differ.
    return json.dumps(associated).encode()
