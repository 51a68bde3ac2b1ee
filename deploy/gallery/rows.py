"""People and templates as rows of the gallery's file, encrypted so that none can be read, altered or put elsewhere.

The associated data of a ciphertext is its table and column, the person, the template and the recognizer's digest, and
of a person's row its times. It is not noticed that rows are taken away, or the whole file is put back to an earlier
state.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from slimcam.deploy.common.errors import DamagedRowError, UnknownPersonError
from slimcam.deploy.gallery.encryption import Cipher
from slimcam.deploy.gallery.people import Float, Person, Snapshot, Template

_PEOPLE = "SELECT id, name, consent, created, expires FROM people"


def stored_version(database: sqlite3.Connection) -> int:
    """The number of changes so far."""
    return int(database.execute("SELECT version FROM gallery").fetchone()[0])


def version(database: sqlite3.Connection, now: float) -> int:
    """A number that changes with the gallery, and with time when somebody expires."""
    expired = database.execute("SELECT count(*) FROM people WHERE expires <= ?", (now,)).fetchone()[0]
    return stored_version(database) << 20 | int(expired)


def model_of(database: sqlite3.Connection) -> str | None:
    """The recognizer's digest that the templates bear; `None` if there are none."""
    row = database.execute("SELECT model FROM templates LIMIT 1").fetchone()
    return None if row is None else str(row[0])


def log(database: sqlite3.Connection, actor: str, action: str, person: str, note: str) -> None:
    """Adds a line to the audit log."""
    database.execute(
        "INSERT INTO audit (at, actor, action, person, note) VALUES (?, ?, ?, ?, ?)",
        (time.time(), actor, action, person, note),
    )


class Rows:
    """Reads and writes the rows with a gallery's key; to be used within a transaction.

    Args:
        cipher: Cipher with the gallery's key.
        title: Name of the gallery in errors.
    """

    def __init__(self, cipher: Cipher, title: str) -> None:
        self._cipher, self._title = cipher, title

    def people(self, database: sqlite3.Connection) -> list[Person]:
        """Everybody, in the order of enrollment.

        Raises:
            DamagedRowError: A row is damaged or not in its place.
        """
        # All rows at once: a statement that an error leaves half read is in the way of later ones.
        rows = database.execute(f"{_PEOPLE} ORDER BY number").fetchall()
        counts = dict(database.execute("SELECT person, count(*) FROM templates GROUP BY person").fetchall())
        return [self._person(row, counts.get(row[0], 0)) for row in rows]

    def one(self, database: sqlite3.Connection, id: str) -> Person:
        """The person of an id.

        Raises:
            UnknownPersonError: There is none.
            DamagedRowError: The row is damaged or not in its place.
        """
        row = database.execute(f"{_PEOPLE} WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise unknown(id)
        return self._person(
            row, database.execute("SELECT count(*) FROM templates WHERE person = ?", (id,)).fetchone()[0]
        )

    def templates(self, database: sqlite3.Connection, person: str) -> list[Template]:
        """The templates of a person, in the order of enrollment.

        Raises: as `people`.
        """
        rows = database.execute(
            "SELECT id, model, embedding, source, image FROM templates LEFT JOIN crops ON template = id "
            "WHERE person = ? ORDER BY number",
            (person,),
        ).fetchall()
        return [
            Template(
                embedding=self._embedding(person, id, model, embedding),
                crop=None if crop is None else self._decrypt(person, crop, "crops.image", id),
                source=self._decrypt(person, source, "templates.source", id, model).decode(),
            )
            for id, model, embedding, source, crop in rows
        ]

    def put(self, database: sqlite3.Connection, person: Person, templates: Sequence[Template], model: str) -> None:
        """Writes a person, in place of the row that is there, and adds templates."""
        name, consent = (
            self._cipher.encrypt(text.encode(), column, person.id, person.created, person.expires)
            for column, text in (("people.name", person.name), ("people.consent", person.consent))
        )
        database.execute(
            "INSERT INTO people (id, name, consent, created, expires) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name, consent = excluded.consent, "
            "expires = excluded.expires",
            (person.id, name, consent, person.created, person.expires),
        )
        for template in templates:
            id = secrets.token_hex(16)
            embedding = template.embedding.astype("<f4").tobytes()
            row = (person.id, id, model)
            database.execute(
                "INSERT INTO templates (id, person, model, embedding, source) VALUES (?, ?, ?, ?, ?)",
                (
                    id,
                    person.id,
                    model,
                    self._cipher.encrypt(embedding, "templates.embedding", *row),
                    self._cipher.encrypt(template.source.encode(), "templates.source", *row),
                ),
            )
            if template.crop is not None:
                encrypted = self._cipher.encrypt(template.crop, "crops.image", person.id, id)
                database.execute("INSERT INTO crops (template, image) VALUES (?, ?)", (id, encrypted))

    def snapshot(self, database: sqlite3.Connection, size: int, now: float) -> Snapshot:
        """All that is needed to recognize people who have not expired.

        Args:
            size: Size of an embedding, for a gallery that holds none.

        Raises: as `people`.
        """
        people = [one for one in self.people(database) if one.expires is None or one.expires > now]
        places = {person.id: i for i, person in enumerate(people)}
        rows = database.execute("SELECT person, id, model, embedding FROM templates ORDER BY number").fetchall()
        rows = sorted((row for row in rows if row[0] in places), key=lambda row: places[row[0]])
        found = [self._embedding(*row) for row in rows]
        return Snapshot(
            version=version(database, now),
            people=tuple(people),
            embeddings=np.stack(found) if found else np.empty((0, size), np.float32),
            owners=np.array([places[row[0]] for row in rows], np.int64),
        )

    def _person(self, row: tuple[Any, ...], templates: int) -> Person:
        id, name, consent, created, expires = row
        return Person(
            id=id,
            name=self._decrypt(id, name, "people.name", created, expires).decode(),
            templates=templates,
            created=created,
            expires=expires,
            consent=self._decrypt(id, consent, "people.consent", created, expires).decode(),
        )

    def _embedding(self, person: str, id: str, model: str, encrypted: bytes) -> Float:
        return np.frombuffer(self._decrypt(person, encrypted, "templates.embedding", id, model), "<f4").astype(
            np.float32
        )

    def _decrypt(self, person: str, encrypted: bytes, column: str, *associated: object) -> bytes:
        try:
            return self._cipher.decrypt(encrypted, column, person, *associated)
        except ValueError as error:
            raise DamagedRowError(
                f"{self._title}: {column} of {person} is damaged or was put there from elsewhere; bring a backup back, "
                f"or forget {person}",
                person,
            ) from error


def unknown(person: str) -> UnknownPersonError:
    """The error for an id that nobody has."""
    return UnknownPersonError(f"nobody in the gallery has the id {person!r}; slimcam-faces list shows who is there")
