"""The SQLite file of a gallery: its tables, its transactions, and its errors in words.

A rollback journal is used, not a write-ahead log: what a transaction deletes is gone from the file when it is
committed, and there is no second file that still holds it until a checkpoint succeeds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slimcam.deploy.common.errors import GalleryError

SCHEMA_VERSION = 1

APPLICATION = 0x736C6366
"""SQLite's application id, that distinguishes a gallery from other databases: "slcf"."""

PATIENCE = 30.0
"""Seconds to wait while another process writes."""

# `lock` is the key-check value.
# AUTOINCREMENT, so that rows are appended and a template keeps its place among those of its person.
_TABLES = """
CREATE TABLE gallery (version INTEGER NOT NULL, dirty INTEGER NOT NULL, lock BLOB NOT NULL);
CREATE TABLE people (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name BLOB NOT NULL,
    consent BLOB NOT NULL,
    created REAL NOT NULL,
    expires REAL
);
CREATE INDEX people_by_expiry ON people (expires) WHERE expires IS NOT NULL;
CREATE TABLE templates (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    model TEXT NOT NULL,
    embedding BLOB NOT NULL,
    source BLOB NOT NULL
);
CREATE INDEX templates_by_person ON templates (person);
CREATE INDEX templates_by_model ON templates (model);
CREATE TABLE crops (
    template TEXT PRIMARY KEY REFERENCES templates (id) ON DELETE CASCADE,
    image BLOB NOT NULL
);
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    person TEXT NOT NULL,
    note TEXT NOT NULL
);
"""


class Database:
    """A connection to a gallery's file, which several threads may share.

    An empty file is made where there is none, of mode 0600, and its folder of mode 0700.

    Args:
        patience: seconds to wait for other processes that write.

    Attributes:
        empty: there are no tables yet; `create` makes them.

    Raises:
        GalleryError: The file is no gallery, damaged, or of a newer slimcam.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path, self.patience = path, patience
        self._lock = threading.RLock()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its journal the mode of the database.
        # Never opened where it is there: closing any descriptor of it would drop the locks that other connections of
        # this process hold (https://sqlite.org/howtocorrupt.html, 2.2).
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with self._explained():
            self._connection = sqlite3.connect(path, patience, isolation_level=None, check_same_thread=False)
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        tables, application, version = (
            self._connection.execute(query).fetchone()[0]
            for query in ("SELECT count(*) FROM sqlite_schema", "PRAGMA application_id", "PRAGMA user_version")
        )
        self.empty = not tables
        if tables and application != APPLICATION:
            raise GalleryError(f"{self.path}: a database, but not a gallery of slimcam; give another file")
        if tables and version != SCHEMA_VERSION:
            raise GalleryError(
                f"{self.path}: a gallery of schema version {version}, this slimcam reads {SCHEMA_VERSION}; "
                "update slimcam"
            )
        if self.path.stat().st_mode & 0o077:
            self.path.chmod(0o600)
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def create(self, key_check: bytes) -> None:
        """Makes the tables, unless another process has just done it.

        Args:
            key_check: Key-check value: a fixed text encrypted with the gallery's key, by which another key is noticed.
        """
        with self.writing() as connection:
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
                # SQLite takes a file of a few bytes for an empty database.
                if self.path.stat().st_size:
                    raise GalleryError(f"{self.path}: not a gallery of slimcam; give another file")
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                for statement in _TABLES.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO gallery VALUES (1, 0, ?)", (key_check,))
        self.empty = False

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees the gallery at one moment."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds as a whole or not at all; on the disk when the block is left."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def rewrite(self) -> None:
        """Rewrites the file without the space of deleted rows.

        `secure_delete` fills deleted rows with zeros, but rows that SQLite once moved from one page to another can
        have left a copy in the unused part of the first: about one in 2,000 that were changed or deleted at random.
        """
        with self._lock, self._explained():
            self._connection.execute("VACUUM")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise TimeoutError(
                    f"{self.path}: another process has been writing for {self.patience:.0f} s; try again"
                ) from error
            raise OSError(f"{self.path}: {error}") from error
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError) as error:
            raise RuntimeError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise GalleryError(f"{self.path}: not a gallery of slimcam; give another file") from error
            raise GalleryError(f"{self.path}: the gallery is damaged ({error}); bring a backup back") from error
