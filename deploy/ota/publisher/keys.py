"""The publisher's signing keys: files with a passphrase, or keys in a hardware security module.

A key is named by a URI of securesystemslib (`Signer.from_priv_key_uri`); which URI belongs to which public key is
written in `keyring.json`, which holds no secret. Schemes:

encrypted-file:PATH     PKCS#8 PEM with a passphrase: made here for root and targets
file2:PATH              PKCS#8 PEM without: made here for snapshot and timestamp, which sign unattended
hsm:ID?label=TOKEN      PKCS#11, with `PYKCS11LIB` naming the module (pip install python-pkcs11)
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib import parse

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    HSMSigner,
    Key,
    SecretsHandler,
    Signer,
)

from slimcam.deploy.common.files import atomic

KEYRING = "keyring.json"

PASSPHRASE = "SLIMCAM_OTA_PASSPHRASE"
"""The environment variable of all passphrases; `SLIMCAM_OTA_PASSPHRASE_ROOT1` is that of the key `root1` alone. They
are asked for where there is none."""

LEAST_PASSPHRASE = 12


class EncryptedFileSigner(CryptoSigner):
    """A signer from a private key in a file with a passphrase; securesystemslib itself reads only files without one."""

    SCHEME = "encrypted-file"

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> CryptoSigner:
        """See `Signer`.

        Raises:
            OSError: the file cannot be read.
            ValueError: the passphrase is another one, or the file holds another key.
        """
        path = Path(priv_key_uri.partition(":")[2])
        if secrets_handler is None:
            raise ValueError(f"{path}: a passphrase is needed")
        content, passphrase = path.read_bytes(), secrets_handler(path.stem)
        try:
            private = load_pem_private_key(content, passphrase.encode())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: the passphrase is not this key's, or the file is damaged") from error
        assert isinstance(private, Ed25519PrivateKey)
        return CryptoSigner(private, public_key)  # type: ignore[arg-type]  # checked by it


SIGNER_FOR_URI_SCHEME.setdefault(EncryptedFileSigner.SCHEME, EncryptedFileSigner)


class Keyring:
    """Which URI signs for which public key, in a folder that is never the public one.

    Args:
        folder: Folder of `keyring.json`; relative paths in URIs start there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A passphrase is asked for once.
        self._signers: dict[str, Signer] = {}
        self._made: list[Path] = []

    @contextmanager
    def making(self) -> Iterator[None]:
        """Keys that are made within are there afterwards, or none of them if something fails: no root names them."""
        self._made = []
        try:
            yield
        except BaseException:
            for path in self._made:
                path.unlink(missing_ok=True)
            raise

    def make(self, name: str, *, where: str | None = None, encrypted: bool = True) -> tuple[str, Key]:
        """A new key; nothing of it is used before `keep` is called.

        Args:
            name: Name of the key, `root1`, `targets` ...; its file is called so.
            where: Path of the file, or an `hsm:` URI whose key is taken; `None` is a file in the folder.

        Returns:
            Its URI and its public half.

        Raises:
            FileExistsError: there is such a file; a private key is never overwritten.
            ValueError: the passphrase is too short, or the module has no such key.
            ImportError: the library for PKCS#11 is missing.
        """
        if where is not None and where.startswith(f"{HSMSigner.SCHEME}:"):
            return _hardware_key(where)
        path = Path(where) if where else self.folder / f"{name}.pem"
        if path.exists():
            raise FileExistsError(f"{path} exists; a private key is not overwritten, move it away or name another file")
        private = Ed25519PrivateKey.generate()
        sealing = BestAvailableEncryption(passphrase(path.stem, new=True).encode()) if encrypted else NoEncryption()
        with atomic(path, durable=True, mode=0o600) as partial:
            partial.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing))
        self._made.append(path)
        scheme = EncryptedFileSigner.SCHEME if encrypted else CryptoSigner.SCHEME
        inside = path.resolve().is_relative_to(self.folder.resolve())
        located = path.resolve().relative_to(self.folder.resolve()) if inside else path.resolve()
        return f"{scheme}:{located}", CryptoSigner(private).public_key

    def keep(self, uris: Mapping[str, str]) -> None:
        """Writes down the URIs of keys, by key id, beside those that are there."""
        content = json.dumps({**self._uris(), **uris}, indent=2, sort_keys=True) + "\n"
        with atomic(self.folder / KEYRING, durable=True, mode=0o600) as partial:
            partial.write_text(content)

    def signer(self, key: Key) -> Signer:
        """What signs for a public key.

        Raises:
            ValueError: its URI is not in the keyring, or the passphrase is another one.
            OSError: the file is not there: on a stick that is not plugged in, perhaps.
        """
        if key.keyid not in self._signers:
            self._signers[key.keyid] = self._signer(key)
        return self._signers[key.keyid]

    def _signer(self, key: Key) -> Signer:
        uris = self._uris()
        if key.keyid not in uris:
            raise ValueError(
                f"{self.folder / KEYRING} has no key {key.keyid[:12]}...; give the folder that has it (keys=)"
            )
        scheme, _, rest = uris[key.keyid].partition(":")
        if scheme != HSMSigner.SCHEME:
            path = self.folder / rest
            if not path.is_file():
                raise FileNotFoundError(f"{path}: the key {key.keyid[:12]}... is not there; bring its medium")
            rest = str(path)
        try:
            return Signer.from_priv_key_uri(f"{scheme}:{rest}", key, passphrase)
        except UnsupportedLibraryError as error:
            raise ImportError(f"{error}: pip install python-pkcs11") from error

    def _uris(self) -> dict[str, str]:
        path = self.folder / KEYRING
        if not path.exists():
            return {}
        try:
            found: dict[str, str] = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); bring a copy back") from error
        return found


def passphrase(name: str, new: bool = False) -> str:
    """The passphrase of a key, or the PIN of a token, from the environment or the terminal.

    Raises:
        ValueError: there is neither, or a new one is too short or was not typed the same twice.
    """
    variable = f"{PASSPHRASE}_{name.upper().replace('-', '_')}"
    found = os.environ.get(variable, os.environ.get(PASSPHRASE))
    if found is None:
        if not sys.stdin.isatty():
            raise ValueError(f"which passphrase has the key {name}? put it into {variable} or {PASSPHRASE}")
        found = getpass.getpass(f"passphrase of {name}: ")
        if new and getpass.getpass("once more: ") != found:
            raise ValueError("the two passphrases differ; nothing was made")
    if new and len(found) < LEAST_PASSPHRASE:
        raise ValueError(f"the passphrase of {name} needs {LEAST_PASSPHRASE} characters or more")
    return found


def _hardware_key(uri: str) -> tuple[str, Key]:
    parsed = parse.urlparse(uri)
    label = dict(parse.parse_qsl(parsed.query)).get("label")
    try:
        found: Any = HSMSigner.import_(int(parsed.path) if parsed.path else None, label, passphrase)
    except UnsupportedLibraryError as error:
        raise ImportError(f"{error}: pip install python-pkcs11") from error
    except ValueError:
        raise
    except Exception as error:  # of any PKCS#11 module, whose errors have no common base
        raise ValueError(f"{uri}: the module refuses ({str(error) or repr(error)})") from error
    return str(found[0]), found[1]
