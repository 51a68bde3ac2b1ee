from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.common.errors import (
    DamagedRowError,
    GalleryError,
    OtherModelError,
    UnknownPersonError,
    WrongKeyError,
)
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.gallery import archive
from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.gallery import Gallery, Person, Template
from slimcam.deploy.gallery.people import clean_name

ROOT = Path(__file__).resolve().parents[3]
MODEL, OTHER = "a" * 64, "b" * 64
SIZE = 16
PASSPHRASE = "correct horse"


def some(count: int, seed: int = 0, crops: bool = False) -> list[Template]:
    rng = np.random.default_rng(seed)
    rows = unit_length(rng.standard_normal((count, SIZE)).astype(np.float32))
    faces = rng.integers(0, 256, (count, 112, 112, 3)).astype(np.uint8)
    return [
        Template(row, encode_crop(face) if crops else None, f"{seed}-{i}.jpg")
        for i, (row, face) in enumerate(zip(rows, faces, strict=True))
    ]


def brightness(crops: np.ndarray) -> np.ndarray:
    """A recognizer of sorts, of another embedding size."""
    return unit_length(crops.reshape(len(crops), -1)[:, :24].astype(np.float32) - 100)


def same(found: list[Template], expected: list[Template]) -> bool:
    return len(found) == len(expected) and all(
        np.array_equal(a.embedding, b.embedding) and (a.crop, a.source) == (b.crop, b.source)
        for a, b in zip(found, expected, strict=True)
    )


Open = Callable[..., Gallery]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/gallery.db"


@pytest.fixture
def opened(tmp_path: Path, path: Path) -> Iterator[Open]:
    galleries = []

    def open_it(model: str | None = MODEL, size: int | None = SIZE, file: Path = path, **more: Any) -> Gallery:
        galleries.append(Gallery(file, model, size, **{"key": tmp_path / "conf/gallery.key", **more}, actor="tester"))
        return galleries[-1]

    yield open_it
    for gallery in galleries:
        gallery.close()


# Enrolling


def test_people_are_there_after_reopening(opened: Open) -> None:
    templates = some(3, crops=True)
    with opened() as gallery:
        before = time.time()
        anna = gallery.enroll("  Anna ", templates, consent="in person", expires=before + 1000)
        bob = gallery.enroll("Bob", some(1, 1), consent="by letter")
    assert (anna.name, anna.templates, anna.consent, anna.expires) == ("Anna", 3, "in person", before + 1000)
    assert before <= anna.created <= time.time()
    with opened() as gallery:
        assert gallery.people() == [anna, bob]
        assert same(gallery.templates(anna.id), templates)
        assert gallery.crops(anna.id).shape == (3, 112, 112, 3)
        assert gallery.crops(bob.id).shape == (0, 112, 112, 3)
        snapshot = gallery.snapshot()
    assert snapshot.people == (anna, bob)
    assert snapshot.owners.tolist() == [0, 0, 0, 1]
    assert (snapshot.embeddings.dtype, snapshot.owners.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(snapshot.embeddings, [one.embedding for one in templates + some(1, 1)])


def test_an_empty_gallery_has_an_empty_snapshot(opened: Open) -> None:
    snapshot = opened().snapshot()
    assert (snapshot.people, snapshot.embeddings.shape, snapshot.owners.shape) == ((), (0, SIZE), (0,))


def test_two_people_may_have_one_name(opened: Open) -> None:
    gallery = opened()
    one, two = (gallery.enroll("Anna", some(1, i), consent="yes") for i in range(2))
    assert one.id != two.id
    gallery.forget(one.id)
    assert gallery.people() == [two]


def test_templates_can_be_added(opened: Open) -> None:
    gallery = opened()
    anna = gallery.enroll("Anna", some(1), consent="first")
    gallery.enroll("Bob", some(1, 5), consent="yes")
    more = gallery.enroll("Anna", some(2, 1), consent="second", expires=time.time() + 99, person=anna.id)
    assert (more.id, more.templates, more.consent, more.created) == (anna.id, 3, "second", anna.created)
    assert gallery.snapshot().owners.tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match="is Anna, not Bob"):
        gallery.enroll("Bob", some(1), consent="x", person=anna.id)
    with pytest.raises(UnknownPersonError, match="nobody in the gallery has the id 'gone'"):
        gallery.enroll("Anna", some(1), consent="x", person="gone")
    assert gallery.people()[0] == more


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("  \u2003", "empty"),
        ("x" * 101, "100 characters; got 101"),
        ("a\nb", "control"),
        ("\x1b[31mred", "control"),
        ("a\u202eb", "control"),
        ("\udc80", "control"),
        ("a\u2028b", "control"),
    ],
)
def test_names_that_cannot_be_shown_are_refused(name: str, reason: str, opened: Open) -> None:
    gallery = opened()
    with pytest.raises(ValueError, match=reason) as error:
        gallery.enroll(name, some(1), consent="yes")
    assert str(error.value).isprintable()
    assert not gallery.people()


@given(st.text(max_size=120))
def test_a_name_is_refused_or_kept_in_its_composed_form(name: str) -> None:
    try:
        clean = clean_name(name)
    except ValueError:
        return
    assert clean_name(clean) == clean
    assert clean.encode()
    assert 1 <= len(clean) <= 100


@pytest.mark.parametrize(
    "name",
    [
        "O'Hara; DROP TABLE people",
        "<script>alert(1)</script>",
        "../../x",
        "山田 太郎",
        "مریم\u200cالسادات",
        "👩\u200d👧",
    ],
)
def test_names_are_data(name: str, opened: Open) -> None:
    opened().enroll(name, some(1), consent="yes")
    assert opened().people()[0].name == name


def test_composed_and_decomposed_names_are_one(opened: Open) -> None:
    assert opened().enroll("Jose\u0301", some(1), consent="yes").name == "Jos\u00e9"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"templates": []}, "one template or more"),
        ({"templates": [replace(some(1)[0], embedding=np.ones(SIZE, np.float32))]}, "of length 1; got 4"),
        ({"templates": [replace(some(1)[0], embedding=np.full(SIZE, np.nan, np.float32))]}, "of length 1"),
        ({"templates": [replace(some(1)[0], embedding=np.ones(8, np.float32))]}, r"must be float32 \(16,\)"),
        ({"templates": [replace(some(1)[0], crop=b"GIF89a")]}, "crop of 0-0.jpg"),
        ({"templates": [replace(some(1)[0], crop=encode_crop(np.zeros((9, 9, 3), np.uint8)))]}, "112x112"),
        ({"consent": " "}, "consent note must not be empty"),
        ({"expires": 5.0}, "in the future"),
        ({"expires": float("nan")}, "in the future"),
        ({"expires": 1e300}, "in the future"),
    ],
)
def test_what_is_not_fit_to_be_enrolled_is_refused(change: dict, reason: str, opened: Open) -> None:
    gallery = opened()
    version = gallery.version()
    with pytest.raises(ValueError, match=reason) as error:
        gallery.enroll(**{"name": "Anna", "templates": some(1), "consent": "yes", **change})
    assert "\n" not in str(error.value)
    assert (gallery.people(), gallery.version()) == ([], version)


# Expiry and version


def test_who_has_expired_is_listed_but_not_recognized(opened: Open) -> None:
    gallery = opened()
    expires = time.time() + 3
    gallery.enroll("Anna", some(2), consent="yes", expires=expires)
    bob = gallery.enroll("Bob", some(1, 1), consent="yes")
    version = gallery.version()
    assert len(gallery.snapshot().people) == 2
    time.sleep(max(0.0, expires - time.time()) + 0.01)
    assert gallery.version() != version
    snapshot = gallery.snapshot()
    assert (snapshot.people, snapshot.owners.tolist(), snapshot.version) == ((bob,), [0], gallery.version())
    assert len(gallery.people()) == 2


def test_every_change_of_any_process_changes_the_version(opened: Open, tmp_path: Path) -> None:
    watcher, gallery = opened(), opened()
    seen = [watcher.version()]
    assert watcher.version() == seen[0]
    anna = gallery.enroll("Anna", some(1, crops=True), consent="yes")
    seen.append(watcher.version())
    gallery.enroll("Anna", some(1, crops=True), consent="yes", person=anna.id)
    seen.append(watcher.version())
    gallery.export(tmp_path / "archive", PASSPHRASE)
    assert watcher.version() == seen[-1]
    gallery.forget(anna.id)
    seen.append(watcher.version())
    gallery.import_(tmp_path / "archive", PASSPHRASE)
    seen.append(watcher.version())
    assert len(set(seen)) == len(seen)
    assert watcher.snapshot().version == seen[-1]


# Forgetting


def encrypted_rows(path: Path) -> dict[str, list[bytes]]:
    """The encrypted contents of each person, of all tables."""
    with sqlite3.connect(path) as database:
        found: dict[str, list[bytes]] = {}
        for query in (
            "SELECT id, name FROM people",
            "SELECT id, consent FROM people",
            "SELECT person, embedding FROM templates",
            "SELECT person, source FROM templates",
            "SELECT person, image FROM templates JOIN crops ON template = id",
        ):
            for person, encrypted in database.execute(query):
                found.setdefault(person, []).append(encrypted)
    database.close()
    return found


def test_forgetting_leaves_no_byte_in_any_file(opened: Open, path: Path) -> None:
    gallery = opened()
    people = [
        gallery.enroll(f"Person Number{i}", some(1 + i % 7, i, crops=i % 5 == 0), consent=f"note {i}")
        for i in range(60)
    ]
    watcher = opened()
    rows = encrypted_rows(path)
    assert all(pieces[0] in path.read_bytes() for pieces in rows.values())
    for i in np.random.default_rng(0).permutation(60)[:40]:
        gallery.forget(people[i].id)
        left = b"".join(file.read_bytes() for file in path.parent.iterdir())
        # A middle part too: what crosses a page is stored in pieces.
        for encrypted in rows.pop(people[i].id):
            assert encrypted[:40] not in left
            assert encrypted[-40:] not in left
            assert encrypted[len(encrypted) // 2 :][:40] not in left
    assert {one.id for one in watcher.people()} == rows.keys() == encrypted_rows(path).keys()
    assert [file.name for file in path.parent.iterdir()] == ["gallery.db"]


def test_nothing_readable_is_in_the_files(opened: Open, path: Path) -> None:
    templates = some(2, crops=True)
    opened().enroll("Annabella Visible", templates, consent="consent-visible")
    content = path.read_bytes()
    for text in (b"Annabella", b"Visible", b"consent-visible", b"0-0.jpg", b"\x89PNG", b"IHDR"):
        assert text not in content
    for one in templates:
        assert one.embedding.tobytes()[:16] not in content


def test_forgetting_nobody_is_refused(opened: Open) -> None:
    gallery = opened()
    version = gallery.version()
    with pytest.raises(UnknownPersonError, match="nobody in the gallery has the id"):
        gallery.forget("0" * 32)
    assert (gallery.version(), gallery.audit()) == (version, [])


def test_a_deletion_that_was_cut_short_is_cleaned_up_by_the_next_to_open(opened: Open, path: Path) -> None:
    gallery = opened()
    gallery.enroll("Anna", some(1), consent="yes")
    gallery.close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA secure_delete = OFF")
        database.execute("CREATE TABLE trace (content BLOB)")
        database.execute("INSERT INTO trace VALUES (?)", (b"trace of somebody" * 200,))
        database.execute("DROP TABLE trace")
        database.execute("UPDATE gallery SET dirty = 7")
    database.close()
    assert b"trace of somebody" in path.read_bytes()
    assert len(opened().people()) == 1
    assert b"trace of somebody" not in path.read_bytes()


# The audit log


def test_the_log_tells_what_was_done_and_names_nobody(opened: Open, tmp_path: Path) -> None:
    gallery = opened()
    anna = gallery.enroll("Annabella", some(2, crops=True), consent="yes")
    gallery.export(tmp_path / "archive", PASSPHRASE)
    gallery.forget(anna.id)
    gallery.import_(tmp_path / "archive", PASSPHRASE)
    gallery.re_enroll(brightness, OTHER)
    log = opened(OTHER, 24).audit()
    assert [one.action for one in log] == ["enrol", "export", "forget", "import", "re-enrol"]
    assert {one.person for one in log} == {anna.id}
    assert {one.actor for one in log} == {"tester"}
    assert all(0 <= time.time() - one.at < 60 for one in log)
    assert "Annabella" not in str(log)


# Keys


def test_another_key_is_refused_and_nothing_changes(opened: Open, path: Path, tmp_path: Path) -> None:
    opened().enroll("Anna", some(1), consent="yes")
    other = tmp_path / "conf/other.key"
    other.write_text("00" * 32)
    other.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(WrongKeyError, match=r"other\.key is not the key of the gallery") as error:
        opened(key=other)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="there is no key"):
        opened(key=tmp_path / "conf/gone.key")
    assert path.read_bytes() == before
    assert sorted(file.name for file in other.parent.iterdir()) == ["gallery.key", "other.key"]


def test_a_key_in_the_gallerys_folder_is_refused_before_anything_is_made(opened: Open, path: Path) -> None:
    with pytest.raises(ValueError, match="lies in the folder of the gallery"):
        opened(key=path.with_name("gallery.key"))
    assert not path.parent.exists()


def test_files_are_this_users_alone(opened: Open, path: Path) -> None:
    opened().enroll("Anna", some(1), consent="yes")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o644)
    opened()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("people", "name", "id"),
        ("people", "consent", "id"),
        ("templates", "embedding", "person"),
        ("templates", "source", "person"),
    ],
)
def test_swapped_rows_are_noticed(table: str, column: str, where: str, opened: Open, path: Path) -> None:
    gallery = opened()
    one, two = (gallery.enroll(name, some(1, i), consent="yes") for i, name in enumerate(("Anna", "Bob")))
    with sqlite3.connect(path) as database:
        ((first,), (second,)) = (
            database.execute(f"SELECT {column} FROM {table} WHERE {where} = ?", (x.id,)).fetchone() for x in (one, two)
        )
        for encrypted, person in ((second, one), (first, two)):
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {where} = ?", (encrypted, person.id))
    database.close()
    with pytest.raises(DamagedRowError, match=rf"{table}\.{column} of .* is damaged or was put there") as error:
        [gallery.templates(x.id) for x in gallery.people()]
    assert "\n" not in str(error.value)
    gallery.forget(one.id)
    gallery.forget(two.id)
    assert gallery.people() == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE people SET expires = expires + 1e6",
        "UPDATE people SET created = 0",
        "UPDATE templates SET person = (SELECT id FROM people WHERE person != people.id)",
        "UPDATE people SET name = consent",
    ],
)
def test_altered_rows_are_noticed(change: str, opened: Open, path: Path) -> None:
    gallery = opened()
    for i, name in enumerate(("Anna", "Bob")):
        gallery.enroll(name, some(1, i), consent="yes", expires=time.time() + 100)
    with sqlite3.connect(path) as database:
        database.execute(change)
    database.close()
    with pytest.raises(DamagedRowError, match="is damaged or was put there"):
        gallery.snapshot()


def test_crops_cannot_be_swapped(opened: Open, path: Path) -> None:
    gallery = opened()
    anna = gallery.enroll("Anna", some(2, crops=True), consent="yes")
    with sqlite3.connect(path) as database:
        database.execute(
            "UPDATE crops SET image = (SELECT image FROM crops AS other WHERE other.template != crops.template)"
        )
    database.close()
    with pytest.raises(DamagedRowError, match=r"crops\.image of .* is damaged"):
        gallery.crops(anna.id)


# Files that are no gallery


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"x"])
def test_a_file_that_is_no_gallery_is_refused_and_kept(content: bytes, opened: Open, tmp_path: Path) -> None:
    opened().close()
    other = tmp_path / "data/other.db"
    other.write_bytes(content)
    with pytest.raises(GalleryError, match="not a gallery of slimcam"):
        opened(file=other)
    assert other.read_bytes() == content


def test_another_programs_database_is_refused_and_kept(opened: Open, tmp_path: Path) -> None:
    opened().close()
    other = tmp_path / "data/other.db"
    with sqlite3.connect(other) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE songs (name)")
    database.close()
    before, mode = other.read_bytes(), other.stat().st_mode
    with pytest.raises(GalleryError, match="but not a gallery of slimcam"):
        opened(file=other)
    assert (other.read_bytes(), other.stat().st_mode) == (before, mode)


def test_a_newer_schema_is_refused(opened: Open, path: Path) -> None:
    opened().close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(GalleryError, match="schema version 2, this slimcam reads 1; update slimcam"):
        opened()


def test_a_truncated_gallery_is_refused_in_one_line(opened: Open, path: Path) -> None:
    gallery = opened()
    for i in range(20):
        gallery.enroll(f"Person {i}", some(3, i, crops=True), consent="yes")
    gallery.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(GalleryError, match="damaged") as error:
        opened().snapshot()
    assert "\n" not in str(error.value)


# Models


def test_another_model_is_refused_until_re_enrolled(opened: Open) -> None:
    gallery = opened()
    anna = gallery.enroll("Anna", some(3, crops=True), consent="yes", expires=time.time() + 100)
    with pytest.raises(OtherModelError, match="slimcam-faces re-enroll") as error:
        opened(OTHER, 24)
    assert "\n" not in str(error.value)
    keeper = opened(None, None)
    assert keeper.people() == [anna]
    crops = keeper.crops(anna.id)
    assert keeper.re_enroll(brightness, OTHER) == 0
    assert (keeper.people(), keeper.model, keeper.embedding_size) == ([anna], OTHER, 24)
    with opened(OTHER, 24) as other:
        np.testing.assert_array_equal(other.snapshot().embeddings, brightness(crops))
        np.testing.assert_array_equal(other.crops(anna.id), crops)
    # The camera that has it open with the former model is told at its next look.
    for look in (gallery.snapshot, lambda: gallery.enroll("Bob", some(1), consent="yes")):
        with pytest.raises(OtherModelError, match="slimcam-faces re-enroll"):
            look()


def test_re_enrolling_is_all_or_nothing_and_says_who_has_no_crops(opened: Open, path: Path) -> None:
    gallery = opened()
    gallery.enroll("Anna", some(1, crops=True), consent="yes")
    bob = gallery.enroll("Bob", some(2, 1), consent="yes")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"no crops were kept of Bob \({bob.id}\)") as error:
        gallery.re_enroll(brightness, OTHER)
    assert "Anna" not in str(error.value)

    def broken(_: np.ndarray) -> np.ndarray:
        return np.full((1, 24), np.nan, np.float32)

    gallery.forget(bob.id)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="of length 1"):
        gallery.re_enroll(broken, OTHER)
    assert path.read_bytes() == before
    gallery.enroll("Bob", some(2, 1, crops=True), consent="yes")
    gallery.enroll("Bob", some(3, 2), consent="yes", person=gallery.people()[1].id)
    assert gallery.re_enroll(brightness, OTHER) == 3
    assert [one.templates for one in gallery.people()] == [1, 2]


def test_re_enrolling_gives_way_to_a_change_meanwhile(opened: Open) -> None:
    gallery, other = opened(), opened()
    gallery.enroll("Anna", some(1, crops=True), consent="yes")

    def interrupted(crops: np.ndarray) -> np.ndarray:
        other.enroll("Bob", some(1, 1), consent="yes")
        return brightness(crops)

    with pytest.raises(RuntimeError, match="changed meanwhile"):
        gallery.re_enroll(interrupted, OTHER)
    assert [one.name for one in gallery.people()] == ["Anna", "Bob"]
    assert gallery.snapshot().embeddings.shape == (2, SIZE)


def test_without_a_model_nobody_is_enrolled(opened: Open) -> None:
    with pytest.raises(ValueError, match="opened without a model"):
        opened(None, None).enroll("Anna", some(1), consent="yes")


# Archives


def test_an_archive_brings_everybody_to_another_gallery(opened: Open, tmp_path: Path) -> None:
    gallery, file = opened(), tmp_path / "archive"
    people = [
        gallery.enroll("Anna", some(3, crops=True), consent="yes", expires=time.time() + 1000),
        gallery.enroll("Åsa 'x'", some(1, 1), consent="by letter"),
    ]
    assert gallery.export(file, PASSPHRASE) == people
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"Anna" not in file.read_bytes()
    key = tmp_path / "conf/second.key"
    for model in (MODEL, None):
        other = opened(model, None, file=tmp_path / f"data{model}/gallery.db", key=key)
        assert other.import_(file, PASSPHRASE) == people
        assert other.people() == people
        assert all(same(other.templates(one.id), gallery.templates(one.id)) for one in people)
        with pytest.raises(ValueError, match=r"Anna .* are in the gallery already; nothing was imported"):
            other.import_(file, PASSPHRASE)


def test_archives_are_imported_whole_or_not_at_all(opened: Open, tmp_path: Path) -> None:
    gallery, file = opened(), tmp_path / "archive"
    gallery.enroll("Anna", some(1), consent="yes")
    gallery.export(file, PASSPHRASE)
    with pytest.raises(FileExistsError, match="choose another file"):
        gallery.export(file, PASSPHRASE)
    with pytest.raises(ValueError, match="8 characters"):
        gallery.export(tmp_path / "weak", "short")
    other = opened(file=tmp_path / "data2/gallery.db")
    content = file.read_bytes()
    good = Person("c" * 32, "Carl", 1, 1.0, None, "yes")
    hostile = {
        b"": "not an archive",
        content[:20]: "passphrase",
        content[:-1]: "passphrase",
        content[:-1] + bytes([content[-1] ^ 1]): "passphrase",
    }
    for person in (
        replace(good, id="d" * 31),
        replace(good, id="e" * 32, name="a\nb"),
        replace(good, id="e" * 32, created=float("nan")),
        replace(good, id="e" * 32, expires="soon"),
        replace(good, id=5),
    ):
        hostile[archive.pack([(good, some(1)), (person, some(1))], MODEL, PASSPHRASE)] = "must"
    hostile[archive.pack([(good, [replace(some(1)[0], crop=b"bad")])], MODEL, PASSPHRASE)] = "crop of 0-0.jpg"
    hostile[archive.pack([(good, some(1)), (good, some(1))], MODEL, PASSPHRASE)] = "twice"
    hostile[archive.pack([(good, some(1))], OTHER, PASSPHRASE)] = "another gallery|not the gallery's"
    bad = tmp_path / "bad"
    other.enroll("Bob", some(1, 3), consent="yes")
    version = other.version()
    for archived, reason in hostile.items():
        bad.write_bytes(archived)
        with pytest.raises(ValueError, match=reason) as error:
            other.import_(bad, PASSPHRASE)
        assert re.fullmatch(r"[^\n]*nothing was imported", str(error.value))
    with pytest.raises(WrongKeyError, match="the passphrase is another one"):
        other.import_(file, PASSPHRASE + "!")
    assert (other.version(), len(other.people())) == (version, 1)


# Processes and threads


def test_processes_write_at_once_and_nothing_is_lost(opened: Open, path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from slimcam.deploy.gallery.gallery import Gallery, Template\n"
        "path, key, tag = sys.argv[1:]\n"
        "one = Template(np.eye(16, dtype=np.float32)[0], None, 'x')\n"
        "with Gallery(Path(path), 'a' * 64, 16, Path(key)) as gallery:\n"
        "    for i in range(10):\n"
        "        person = gallery.enroll(f'{tag} {i}', [one, one], consent='yes')\n"
        "        if i % 2: gallery.forget(person.id)\n"
        "        gallery.snapshot()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(tmp_path / "conf/gallery.key"), tag],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for tag in ("first", "second", "third")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    gallery = opened()
    expected = {f"{tag} {i}" for tag in ("first", "second", "third") for i in range(0, 10, 2)}
    assert {one.name for one in gallery.people()} == expected
    assert len(gallery.audit()) == 45
    assert gallery.snapshot().embeddings.shape == (30, SIZE)


def test_threads_may_share_a_gallery(opened: Open) -> None:
    gallery = opened()
    failures = []

    def enroll(tag: int) -> None:
        try:
            for i in range(5):
                gallery.enroll(f"{tag} {i}", some(1, i), consent="yes")
                gallery.version()
                gallery.snapshot()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=enroll, args=(tag,)) for tag in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(gallery.people()) == 20


def test_a_gallery_in_use_elsewhere_is_said_to_be_busy(opened: Open, path: Path) -> None:
    opened().enroll("Anna", some(1), consent="yes")
    gallery = opened(patience=0.2)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TimeoutError, match="another process has been writing"):
        gallery.enroll("Bob", some(1), consent="yes")
    assert len(gallery.people()) == 1  # readers go on
    holder.execute("ROLLBACK")
    holder.close()
    gallery.enroll("Bob", some(1), consent="yes")


def test_a_copy_of_the_folder_opens_with_the_key_only(opened: Open, path: Path, tmp_path: Path) -> None:
    opened().enroll("Anna", some(1), consent="yes")
    copy = Path(shutil.copytree(path.parent, tmp_path / "backup")) / "gallery.db"
    assert opened(file=copy).people()[0].name == "Anna"
    with pytest.raises(FileNotFoundError):
        opened(file=copy, key=tmp_path / "nowhere/gallery.key")


def test_a_gallery_that_is_opened_again_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "g/gallery.db"
    gallery = Gallery(path, "0" * 64, 4, tmp_path / "k/key")
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        Gallery(path, "0" * 64, 4, tmp_path / "k/key").close()
        code = f"import sqlite3; sqlite3.connect({str(path)!r}, 0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        writer.execute("ROLLBACK")
    assert "database is locked" in other.stderr
    gallery.close()


# Corrections


def test_a_person_is_renamed_and_expires_and_found_under_the_new_name(opened: Open, path: Path) -> None:
    with opened() as gallery:
        anna = gallery.enroll("Ana", some(2), consent="yes")
        assert gallery.rename(anna.id, " Anna ").name == "Anna"
        moment = time.time() + 1000
        gallery.expire(anna.id, moment)
    with opened() as gallery:
        (found,) = gallery.people()
        assert (found.id, found.name, found.expires, found.templates) == (anna.id, "Anna", moment, 2)
        assert len(gallery.snapshot().embeddings) == 2
        gallery.expire(anna.id, 1.0)
        assert gallery.snapshot().people == ()
        assert gallery.expire(anna.id, None).expires is None
        assert [one.action for one in gallery.audit()] == ["enrol", "rename", *["expire"] * 3]
        with pytest.raises(ValueError, match="control characters"):
            gallery.rename(anna.id, "a\nb")
        with pytest.raises(UnknownPersonError):
            gallery.rename("0" * 32, "Bob")
    assert b"Ana" not in path.read_bytes()


def test_two_people_who_are_one_are_merged_and_a_wrong_template_is_removed(opened: Open) -> None:
    with opened() as gallery:
        anna, again = gallery.enroll("Anna", some(1), consent="yes"), gallery.enroll("Ann", some(2, 5), consent="x")
        merged = gallery.merge(again.id, anna.id)
        assert (merged.id, merged.name, merged.templates, merged.consent) == (anna.id, "Anna", 3, "yes")
        assert [one.id for one in gallery.people()] == [anna.id]
        before = [template.embedding.tobytes() for template in gallery.templates(anna.id)]
        assert gallery.remove_template(anna.id, 2).templates == 2
        left = [template.embedding.tobytes() for template in gallery.templates(anna.id)]
        assert left == [before[0], before[2]]
        with pytest.raises(ValueError, match="templates 1 to 2; got 3"):
            gallery.remove_template(anna.id, 3)
        gallery.remove_template(anna.id, 1)
        with pytest.raises(ValueError, match="the only template"):
            gallery.remove_template(anna.id, 1)
        with pytest.raises(ValueError, match="into themselves"):
            gallery.merge(anna.id, anna.id)
        assert [one.action for one in gallery.audit()][2:] == ["merge", "remove-template", "remove-template"]
