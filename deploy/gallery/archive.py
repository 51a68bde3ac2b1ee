"""The file that people are carried from one gallery to another in, encrypted with a passphrase.

8 bytes   SLIMCAM1
16 bytes  salt of scrypt (RFC 7914), which makes the key of the passphrase
rest      JSON encrypted with AES-256-GCM, see `slimcam.deploy.gallery.encryption`
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from slimcam.deploy.common.errors import WrongKeyError
from slimcam.deploy.gallery.encryption import KEY_BYTES, Cipher
from slimcam.deploy.gallery.people import Person, Template

MARK = b"SLIMCAM1"
SALT_BYTES = 16

PASSPHRASE_LENGTH = 8

LARGEST = 1 << 30
"""Bytes of an archive: the whole of it is in memory, and one message of AES-GCM in the library has at most 2^31."""

Holding = tuple[Person, Sequence[Template]]


def pack(holdings: Sequence[Holding], model: str, passphrase: str) -> bytes:
    """People with their templates as an archive.

    Args:
        model: SHA-256 of the recognizer that the embeddings are from.

    Raises:
        ValueError: the passphrase is too short, or the archive would be too large.
    """
    if len(passphrase) < PASSPHRASE_LENGTH:
        raise ValueError(f"the passphrase must have {PASSPHRASE_LENGTH} characters or more")
    people = [
        {**asdict(person), "templates": [_packed(template) for template in templates]} for person, templates in holdings
    ]
    content = json.dumps({"model": model, "people": people}).encode()
    if len(content) > LARGEST:
        raise ValueError(f"the archive would have {len(content) >> 20} MB; at most {LARGEST >> 20} can be exported")
    salt = secrets.token_bytes(SALT_BYTES)
    return MARK + salt + _cipher(passphrase, salt).encrypt(content, "archive")


def unpack(archive: bytes, passphrase: str) -> tuple[str, list[Holding]]:
    """The model and the people of an archive.

    Raises:
        ValueError: It is no archive, or one of another version.
        WrongKeyError: The passphrase is another one, or the archive is damaged.
    """
    if not archive.startswith(MARK):
        raise ValueError("not an archive that slimcam-faces exported")
    salt, encrypted = archive[len(MARK) :][:SALT_BYTES], archive[len(MARK) + SALT_BYTES :]
    try:
        content = json.loads(_cipher(passphrase, salt).decrypt(encrypted, "archive"))
    except ValueError as error:
        raise WrongKeyError("the passphrase is another one, or the archive is damaged") from error
    try:
        holdings: list[Holding] = []
        for packed in content["people"]:
            templates = [_unpacked(template) for template in packed["templates"]]
            holdings.append((Person(**{**packed, "templates": len(templates)}), templates))
        return str(content["model"]), holdings
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the archive has another form than this slimcam's: {error}; update slimcam") from error


def _cipher(passphrase: str, salt: bytes) -> Cipher:
    # OWASP's Password Storage Cheat Sheet lists these costs as equal to 2^17, 8, 1; they take 32 MB, not 128.
    cost = 2**15
    secret = passphrase.encode("utf-8", "surrogateescape")
    return Cipher(hashlib.scrypt(secret, salt=salt, n=cost, r=8, p=3, maxmem=2 * 128 * 8 * cost, dklen=KEY_BYTES))


def _packed(template: Template) -> dict[str, str | None]:
    return {
        "embedding": base64.b64encode(template.embedding.astype("<f4").tobytes()).decode(),
        "crop": None if template.crop is None else base64.b64encode(template.crop).decode(),
        "source": template.source,
    }


def _unpacked(packed: dict[str, str | None]) -> Template:
    embedding, crop = packed["embedding"], packed["crop"]
    return Template(
        embedding=np.frombuffer(base64.b64decode(embedding or ""), "<f4").astype(np.float32),
        crop=None if crop is None else base64.b64decode(crop),
        source=str(packed["source"]),
    )
