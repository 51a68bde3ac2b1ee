"""What a gallery holds: people, their templates, and the rules for names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

NAME_LENGTH = 100
NOTE_LENGTH = 500

LAST_MOMENT = 4e9
"""Unix time in the year 2096: later expiries are taken for mistakes."""

NO_CONSENT = "not stated"
"""The consent note of people who were enrolled without one; `slimcam-faces check` names them."""

# Unicode's control and surrogate characters, line and paragraph separators; of the format characters only those that
# turn the direction of what follows, for the others (joiners) are letters' glue in several scripts.
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Template:
    """A view of a person that faces are compared with.

    Attributes:
        embedding: `(E,)` float32, L2-normalized.
        crop: PNG or JPEG of the aligned 112x112 face; `None` unless the owner of the gallery chose to keep crops.
        source: where the view is from, for example the name of a file.
    """

    embedding: Float
    crop: bytes | None
    source: str


@dataclass(frozen=True)
class Person:
    """Somebody who is enrolled.

    Attributes:
        id: random, 32 hexadecimal digits. Two people may have one name, never one id.
        templates: how many there are.
        created: Unix time.
        expires: Unix time from which on the person is not recognized any more; `None` for never.
        consent: a note on who agreed, when, to what.
    """

    id: str
    name: str
    templates: int
    created: float
    expires: float | None
    consent: str


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to recognize people, at one moment. Who has expired is not in it.

    Attributes:
        version: `Gallery.version` at that moment.
        people: Everybody who has not expired.
        embeddings: `(N, E)` float32, L2-normalized.
        owners: `(N,)` int64, ascending, index into `people`.
    """

    version: int
    people: tuple[Person, ...]
    embeddings: Float
    owners: NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """A line of the audit log; it names no person and holds no biometric data.

    Attributes:
        at: Unix time.
        actor: who did it: a user of the machine, or a part of slimcam.
        action: "enrol", "forget", "export", "import" or "re-enrol".
        person: the id of the person concerned.
    """

    at: float
    actor: str
    action: str
    person: str
    note: str


def clean_name(name: str) -> str:
    """A name as it is kept: in Unicode's composed form, without space around it.

    Raises:
        ValueError: it is empty, too long, or has characters that control a terminal or turn the writing direction.
    """
    return clean_text(name, "a name", NAME_LENGTH)


def clean_text(text: str, what: str, length: int) -> str:
    """The same for any text of one line."""
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise ValueError(f"{what} must not be empty")
    if len(text) > length:
        raise ValueError(f"{what} may have {length} characters; got {len(text)}")
    for character in text:
        if unicodedata.category(character) in _REFUSED or character in _TURNING:
            raise ValueError(f"{what} must not have control characters; got {character!a} in it")
    return text


def check_person(person: Person) -> None:
    """Says what is wrong with a person who comes from a file.

    Raises:
        ValueError: a value is of another kind or form.
    """
    if not (isinstance(person.id, str) and re.fullmatch("[0-9a-f]{32}", person.id)):
        raise ValueError(f"an id must be 32 hexadecimal digits; got {person.id!a}")
    if not (isinstance(person.name, str) and isinstance(person.consent, str)):
        raise ValueError(f"name and consent note of {person.id} must be texts")
    if clean_name(person.name) != person.name or clean_text(person.consent, "a note", NOTE_LENGTH) != person.consent:
        raise ValueError(f"name or consent note of {person.id} are not in their composed form")
    for moment in (person.created, 0.0 if person.expires is None else person.expires):
        if not isinstance(moment, float) or not 0 <= moment < LAST_MOMENT:
            raise ValueError(f"the times of {person.id} must be seconds of Unix time; got {moment!r}")


def check_embedding(embedding: Float, size: int | None) -> None:
    """Says what is wrong with an embedding that is not `(size,)` float32 of length 1.

    Raises:
        ValueError: it is none.
    """
    shape = (len(embedding) if size is None else size,)
    if embedding.dtype != np.float32 or embedding.shape != shape:
        raise ValueError(f"an embedding must be float32 {shape}; got {embedding.dtype} {embedding.shape}")
    if not abs(float(np.linalg.norm(embedding)) - 1) < 1e-3:
        raise ValueError(f"an embedding must be of length 1; got {np.linalg.norm(embedding):.4g}")


def name_list(people: Sequence[Person]) -> str:
    """People in a sentence: `Anna (1f..), Bob (a0..)`."""
    return ", ".join(f"{person.name} ({person.id})" for person in people)
