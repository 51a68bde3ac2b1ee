"""A bundle as one file, which TUF pins by its hash: an uncompressed tar of exactly the bundle's files.

The same bundle gives the same bytes: files in a fixed order, without times, owners and permissions of a machine. It is
not compressed: quantized weights hardly shrink, and what cannot expand needs no guard against it.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from slimcam.deploy.inference.bundle import CARD, GOLDEN, MANIFEST, MODEL, load_bundle

FILES = (MANIFEST, MODEL, GOLDEN, CARD)

LARGEST = 256 << 20
"""Bytes of an archive, at most."""


def pack(folder: Path) -> bytes:
    """The archive of a bundle.

    Raises:
        FileNotFoundError, ValueError: the bundle is damaged, or larger than an archive may be.
    """
    load_bundle(folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in FILES:
            content = (folder / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if buffer.tell() > LARGEST:
        raise ValueError(f"bundle {folder} has {buffer.tell():,} bytes; a release may have {LARGEST:,} a part")
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """The files of a bundle from its archive, by their names; nothing is written.

    Raises:
        ValueError: it is no archive, or has anything but the four files of a bundle once each as regular files.
    """
    if len(content) > LARGEST:
        raise ValueError(f"an archive may have {LARGEST:,} bytes; got {len(content):,}")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                if member.name not in FILES or not member.isreg() or member.issparse() or member.name in files:
                    raise ValueError(f"{member.name[:80]!r} is no file of a bundle, or is there twice")
                file = archive.extractfile(member)
                assert file is not None  # of a regular file
                files[member.name] = file.read()
                if len(files[member.name]) != member.size:
                    raise ValueError(f"{member.name} is truncated")
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise ValueError(f"not an archive of a bundle ({error})") from error
    if missing := [name for name in FILES if name not in files]:
        raise ValueError(f"the archive lacks {', '.join(missing)}")
    return files
