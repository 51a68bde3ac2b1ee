"""Addresses without what is secret in them."""

from __future__ import annotations

import re

# Up to the first of these lies the part of an address with user, password, host and port (RFC 3986, 3.2).
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/{1,2}(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_SEGMENT = re.compile(r"[A-Za-z0-9_.~%+,-]*")

HIDDEN = "…"


def redacted(source: str) -> str:
    """A source as it may be shown: an address without user, password and query; anything else as it is.

    What cannot be told apart with certainty is left out, for users write passwords with `/`, `@` or `#` unescaped, and
    some cameras take them in the path (`/user=admin_password=...`). Nothing of what is returned breaks a line.
    """
    address = _ADDRESS.fullmatch(source)
    if address is None:
        # A mistyped address, or `user:password@host`.
        return HIDDEN if "@" in source else printable(source)
    scheme, authority, rest = address.group("scheme", "authority", "rest")
    host = authority.rpartition("@")[2]
    if "@" in rest or not _HOST.fullmatch(host):
        return f"{scheme}://{HIDDEN}"
    path, mark, _ = re.match(r"([^?#]*)([?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # matches anything
    segments = (segment if _SEGMENT.fullmatch(segment) else HIDDEN for segment in path.split("/"))
    return f"{scheme}://{host}{'/'.join(segments)}{'?' + HIDDEN if mark else ''}"


def printable(text: str) -> str:
    """A text as one line that cannot steer a terminal: what is not printable becomes `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)
