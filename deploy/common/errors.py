"""Errors that callers tell apart.

They are ValueError or OSError too, as Python's own `json.JSONDecodeError` is: who only wants one line for the user
catches those, and who has to answer a wrong key otherwise than a bad name catches these first.
"""

from __future__ import annotations


class GalleryError(ValueError):
    """The gallery itself cannot be used: it is none, damaged, or of another version, key or recognizer.

    A bad argument to a method of the gallery is no such error, but a ValueError.
    """


class WrongKeyError(GalleryError):
    """The gallery, or an archive of it, is encrypted with another key or passphrase."""


class DamagedRowError(GalleryError):
    """A row was altered, or moved to another person, template or column.

    Attributes:
        person: Id of the person whose row it is.
    """

    def __init__(self, message: str, person: str) -> None:
        super().__init__(message)
        self.person = person


class OtherModelError(GalleryError):
    """The embeddings are from another recognizer than the one in use."""


class UnknownPersonError(ValueError):
    """Nobody in the gallery has this id."""


class BundleError(ValueError):
    """A model bundle is damaged, altered, of another version or task, or does not give its golden outputs here."""


class SourceError(OSError):
    """A source of frames cannot be opened, or ended before it should."""
