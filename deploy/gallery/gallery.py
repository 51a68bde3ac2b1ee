"""The gallery: who is known to a camera, in one SQLite file, encrypted with a key that lies elsewhere.

Names, consent notes, embeddings, crops and their sources are encrypted, with row and column as associated data
(`slimcam.deploy.gallery.encryption`). Ids, times, numbers of templates, the recognizer's digest and the audit log are
not.
"""

from __future__ import annotations

import getpass
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import OtherModelError, WrongKeyError
from slimcam.deploy.common.files import atomic
from slimcam.deploy.gallery import archive
from slimcam.deploy.gallery.crops import decode_crops
from slimcam.deploy.gallery.database import PATIENCE, Database
from slimcam.deploy.gallery.encryption import Cipher, check_outside, default_key, make_key, read_key
from slimcam.deploy.gallery.people import (
    LAST_MOMENT,
    NOTE_LENGTH,
    Entry,
    Float,
    Person,
    Snapshot,
    Template,
    check_embedding,
    check_person,
    clean_name,
    clean_text,
    name_list,
)
from slimcam.deploy.gallery.rows import Rows, log, model_of, stored_version, unknown, version

__all__ = ["Entry", "Gallery", "Person", "Snapshot", "Template"]

_KEY_CHECK = "slimcam gallery"
"""Associated data of the key-check value, whose content is empty."""


class Gallery:
    """A gallery, made where there is none. Several processes may have it open, and several threads may share it.

    What a method has changed when it returns is on the disk; a process or machine that dies leaves each change whole
    or undone.

    Args:
        path: SQLite file of the gallery.
        model: SHA-256 of the recognizer's model file, which all embeddings must be from; `None` to keep the gallery
            (list, forget, export ...) whichever model it is from.
        embedding_size: Size of the model's embeddings.
        key: File of the key, made where both are missing; `slimcam.deploy.gallery.encryption.default_key()` if `None`.
        actor: whom the audit log names; the user of the machine if `None`.
        patience: seconds to wait for other processes that write.

    Raises:
        WrongKeyError: The key is another one.
        OtherModelError: The embeddings are from another recognizer.
        GalleryError: The file is no gallery, damaged, or of a newer slimcam.
        ValueError: The key lies in the gallery's folder.
        OSError: gallery or key cannot be read, or the key is missing.
    """

    def __init__(
        self,
        path: Path,
        model: str | None = None,
        embedding_size: int | None = None,
        key: Path | None = None,
        actor: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.path, self.model, self.embedding_size = path, model, embedding_size
        self._actor = _user() if actor is None else actor
        key = default_key() if key is None else key
        check_outside(key, path)
        new = not path.exists() or not path.stat().st_size
        cipher = Cipher(make_key(key) if new else read_key(key))
        self._rows = Rows(cipher, str(path))
        self._database = Database(path, patience)
        try:
            if self._database.empty:
                self._database.create(cipher.encrypt(b"", _KEY_CHECK))
            with self._database.reading() as database:
                key_check, dirty = database.execute("SELECT lock, dirty FROM gallery").fetchone()
                try:
                    cipher.decrypt(key_check, _KEY_CHECK)
                except ValueError as error:
                    raise WrongKeyError(
                        f"{key} is not the key of the gallery {path}; give the right one (key=FILE)"
                    ) from error
                self._check_model(database)
            if dirty:
                self._clean()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def version(self) -> int:
        """A number that is another one after any process changed the gallery, or when somebody has expired."""
        with self._database.reading() as database:
            return version(database, time.time())

    def made_with(self) -> str | None:
        """SHA-256 of the recognizer's model that the templates are from; None where there are none."""
        with self._database.reading() as database:
            return model_of(database)

    def people(self) -> list[Person]:
        """Everybody, in the order of enrollment, expired ones too."""
        with self._database.reading() as database:
            return self._rows.people(database)

    def snapshot(self) -> Snapshot:
        """All that is needed to recognize people.

        Raises:
            OtherModelError: The gallery has become another model's.
            DamagedRowError: A row is damaged or not in its place.
        """
        with self._database.reading() as database:
            self._check_model(database)
            return self._rows.snapshot(database, self.embedding_size or 0, time.time())

    def enroll(
        self,
        name: str,
        templates: Sequence[Template],
        *,
        consent: str,
        expires: float | None = None,
        person: str | None = None,
    ) -> Person:
        """Adds a person, or templates to one who is there.

        Args:
            name: up to 100 characters without control characters. Several people may have one name.
            consent: who agreed, when, to what; up to 500 characters.
            expires: Unix time from which on the person is not recognized any more.
            person: the id of one who is there, with this name; note and expiry now given replace the former ones.

        Raises:
            UnknownPersonError: Nobody has this id.
            ValueError: An argument is not as it has to be, or the person has another name.
        """
        if self.model is None:
            raise ValueError("the gallery was opened without a model; open it with the recognizer's to enroll")
        name, consent = clean_name(name), clean_text(consent, "a consent note", NOTE_LENGTH)
        expires = None if expires is None else float(expires)
        if expires is not None and not time.time() < expires < LAST_MOMENT:
            raise ValueError(f"the time of expiry must lie in the future, before 2096; got {expires:.0f}")
        self._check_templates(templates)
        with self._writing() as database:
            created = time.time()
            if person is not None:
                present = self._rows.one(database, person)
                if present.name != name:
                    raise ValueError(f"{person} is {present.name}, not {name}; give the right id")
                created = present.created
            enrolled = Person(person or secrets.token_hex(16), name, 0, created, expires, consent)
            self._rows.put(database, enrolled, templates, self.model)
            log(database, self._actor, "enrol", enrolled.id, f"{len(templates)} templates")
            return self._rows.one(database, enrolled.id)

    def forget(self, person: str) -> None:
        """Deletes a person and all that was kept of them; no byte of it is left in the file.

        Copies made before (backups, exports) are not reached, nor are freed blocks of the disk, which held ciphertext.

        Raises:
            UnknownPersonError: Nobody has this id.
        """
        with self._writing() as database:
            if not database.execute("DELETE FROM people WHERE id = ?", (person,)).rowcount:
                raise unknown(person)
            log(database, self._actor, "forget", person, "")
            database.execute("UPDATE gallery SET dirty = version + 1")
        self._clean()

    def rename(self, person: str, name: str) -> Person:
        """Gives a person another name.

        Raises:
            ValueError: The name is none.
            UnknownPersonError: Nobody has this id.
        """
        return self._change(person, "rename", name=clean_name(name))

    def expire(self, person: str, expires: float | None) -> Person:
        """Sets from when on a person is not recognized any more; a moment that has passed is allowed.

        Args:
            expires: Unix time; `None` for never.

        Raises:
            ValueError: It is no such time.
            UnknownPersonError: Nobody has this id.
        """
        if expires is not None and not 0 <= expires < LAST_MOMENT:
            raise ValueError(f"the time of expiry must lie before 2096; got {expires:.0f}")
        return self._change(person, "expire", expires=None if expires is None else float(expires))

    def merge(self, person: str, into: str) -> Person:
        """Moves all templates of a person to another one, and forgets the former: they were one person.

        Raises:
            ValueError: It is the same id twice.
            UnknownPersonError: Nobody has one of the ids.
        """
        if person == into:
            raise ValueError("a person cannot be merged into themselves; give two ids")
        with self._writing() as database:
            self._rows.one(database, person)
            target = self._rows.one(database, into)
            templates = self._rows.templates(database, person)
            self._rows.put(database, target, templates, self._check_model(database))
            database.execute("DELETE FROM people WHERE id = ?", (person,))
            log(database, self._actor, "merge", person, f"{len(templates)} templates into {into}")
            database.execute("UPDATE gallery SET dirty = version + 1")
            merged = self._rows.one(database, into)
        self._clean()
        return merged

    def remove_template(self, person: str, number: int) -> Person:
        """Deletes one template of a person, by its number from 1, as `review` tells it; no byte of it is left.

        Raises:
            ValueError: There is no such template, or it is the only one.
            UnknownPersonError: Nobody has this id.
        """
        with self._writing() as database:
            self._rows.one(database, person)
            ids = [
                id for (id,) in database.execute("SELECT id FROM templates WHERE person = ? ORDER BY number", (person,))
            ]
            if not 1 <= number <= len(ids):
                raise ValueError(f"{person} has templates 1 to {len(ids)}; got {number}")
            if len(ids) == 1:
                raise ValueError(f"it is the only template of {person}: slimcam-faces forget {person}")
            database.execute("DELETE FROM templates WHERE id = ?", (ids[number - 1],))
            log(database, self._actor, "remove-template", person, f"template {number} of {len(ids)}")
            database.execute("UPDATE gallery SET dirty = version + 1")
            left = self._rows.one(database, person)
        self._clean()
        return left

    def _change(self, person: str, action: str, **changes: Any) -> Person:
        with self._writing() as database:
            changed = replace(self._rows.one(database, person), **changes)
            self._rows.put(database, changed, (), "")
            log(database, self._actor, action, person, "")
            database.execute("UPDATE gallery SET dirty = version + 1")
        self._clean()
        return changed

    def templates(self, person: str) -> list[Template]:
        """The templates of a person, in the order of enrollment.

        Raises:
            UnknownPersonError: Nobody has this id.
            DamagedRowError: A row is damaged or not in its place.
        """
        with self._database.reading() as database:
            self._rows.one(database, person)
            return self._rows.templates(database, person)

    def crops(self, person: str) -> NDArray[np.uint8]:
        """The aligned faces that were kept of a person, `(N, 112, 112, 3)` uint8 RGB.

        Raises: as `templates`.
        """
        return decode_crops(self.templates(person))

    def re_enroll(self, embed: Callable[[NDArray[np.uint8]], Float], model: str) -> int:
        """Makes the templates again from kept crops, for another recognizer; all of them or none.

        Templates without a crop are dropped, where their person has others.

        Args:
            embed: gives `(N, E)` float32, L2-normalized, for `(N, 112, 112, 3)` uint8 RGB.
            model: SHA-256 of the recognizer's model file.

        Returns:
            How many templates were dropped.

        Raises:
            ValueError: no crop was kept of somebody; the message says of whom. Nothing is changed.
            RuntimeError: another process changed the gallery meanwhile. Nothing is changed.
        """
        with self._database.reading() as database:
            before = stored_version(database)
            holdings = self._holdings(database)
        kept = [(person, [one for one in templates if one.crop is not None]) for person, templates in holdings]
        if lacking := [person for person, templates in kept if not templates]:
            raise ValueError(
                f"no crops were kept of {name_list(lacking)}: forget them, then enroll them again afterwards; "
                "nothing was changed"
            )
        renewed = []
        for person, templates in kept:
            embeddings = embed(decode_crops(templates))
            renewed.append(
                (person, [Template(e, t.crop, t.source) for e, t in zip(embeddings, templates, strict=True)])
            )
            for template in renewed[-1][1]:
                check_embedding(template.embedding, None)
        with self._database.writing() as database:
            if stored_version(database) != before:
                raise RuntimeError("the gallery was changed meanwhile; nothing was re-enrolled, run it again")
            database.execute("DELETE FROM templates")
            for person, templates in renewed:
                self._rows.put(database, person, templates, model)
                log(database, self._actor, "re-enrol", person.id, f"{len(templates)} templates")
            database.execute("UPDATE gallery SET version = version + 1, dirty = version + 1")
        self.model = model
        self.embedding_size = len(renewed[0][1][0].embedding) if renewed else None
        self._clean()
        return sum(len(templates) for _, templates in holdings) - sum(len(templates) for _, templates in renewed)

    def export(self, path: Path, passphrase: str) -> list[Person]:
        """Writes everybody into an archive, see `slimcam.deploy.gallery.archive`.

        Raises:
            ValueError: the passphrase is too short, or the archive would be too large.
            OSError: the file exists, or cannot be written.
        """
        if path.exists():
            raise FileExistsError(f"{path} exists; choose another file")
        with self._database.reading() as database:
            holdings, model = self._holdings(database), self._check_model(database)
        content = archive.pack(holdings, model, passphrase)
        people = [person for person, _ in holdings]
        # Logged before it is in place, so that there is no archive that the log does not know of.
        with atomic(path, durable=True, mode=0o600) as partial:
            partial.write_bytes(content)
            with self._database.writing() as database:
                for person in people:
                    log(database, self._actor, "export", person.id, f"{person.templates} templates")
        return people

    def import_(self, path: Path, passphrase: str) -> list[Person]:
        """Adds everybody of an archive, or nobody.

        Raises:
            WrongKeyError: The passphrase is another one, or the archive is damaged.
            OtherModelError: Its embeddings are from another recognizer.
            ValueError: It is no archive, or has somebody who is there already.
            OSError: the file cannot be read.
        """
        try:
            if path.stat().st_size > 2 * archive.LARGEST:
                raise ValueError("too large for an archive")
            model, holdings = archive.unpack(path.read_bytes(), passphrase)
            if len({person.id for person, _ in holdings}) < len(holdings):
                raise ValueError("it has somebody twice")
            for person, templates in holdings:
                check_person(person)
                self._check_templates(templates)
        except ValueError as error:
            kind = WrongKeyError if isinstance(error, WrongKeyError) else ValueError
            raise kind(f"{path}: {error}; nothing was imported") from error
        with self._writing() as database:
            present = {id for (id,) in database.execute("SELECT id FROM people")}
            if double := [person for person, _ in holdings if person.id in present]:
                raise ValueError(f"{path}: {name_list(double)} are in the gallery already; nothing was imported")
            if model != (self.model or model_of(database) or model):
                raise OtherModelError(
                    f"{path}: exported with the recognizer {model[:12]}..., which is not the gallery's; import it into "
                    "a gallery of its own (gallery=FILE) and run slimcam-faces re-enroll there; nothing was imported"
                )
            for person, templates in holdings:
                self._rows.put(database, person, templates, model)
                log(database, self._actor, "import", person.id, f"{len(templates)} templates")
        return [person for person, _ in holdings]

    def audit(self) -> list[Entry]:
        """What was done, oldest first."""
        with self._database.reading() as database:
            rows = database.execute("SELECT at, actor, action, person, note FROM audit ORDER BY number").fetchall()
        return [Entry(*row) for row in rows]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._database.writing() as database:
            self._check_model(database)
            yield database
            database.execute("UPDATE gallery SET version = version + 1")

    def _clean(self) -> None:
        """Takes the traces of the deleted out of the file; a process killed before leaves it to the next."""
        with self._database.reading() as database:
            dirty = database.execute("SELECT dirty FROM gallery").fetchone()[0]
        self._database.rewrite()
        with self._database.writing() as database:
            database.execute("UPDATE gallery SET dirty = 0 WHERE dirty = ?", (dirty,))

    def _check_model(self, database: sqlite3.Connection) -> str:
        """The model that the templates are from, or would be."""
        found = model_of(database)
        if found is not None and self.model is not None and found != self.model:
            raise OtherModelError(
                f"the gallery {self.path} was made with the recognizer {found[:12]}..., this one is "
                f"{self.model[:12]}...: slimcam-faces re-enroll rebuilds it from the crops that were kept"
            )
        return found or self.model or ""

    def _check_templates(self, templates: Sequence[Template]) -> None:
        if not templates:
            raise ValueError("a person needs one template or more")
        for template in templates:
            check_embedding(template.embedding, self.embedding_size)
            clean_text(template.source, "the source of a template", NOTE_LENGTH)
        decode_crops(templates)

    def _holdings(self, database: sqlite3.Connection) -> list[archive.Holding]:
        return [(person, self._rows.templates(database, person.id)) for person in self._rows.people(database)]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return str(os.getuid())
