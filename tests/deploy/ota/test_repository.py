from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.ota.publisher import repository as repository_module
from slimcam.deploy.ota.publisher.keys import PASSPHRASE, Keyring
from slimcam.deploy.ota.publisher.repository import DAYS, Repository
from tests.deploy.ota.conftest import Device
from tests.deploy.ota.releases import GATE, new_repository, publish, serve, variant


def test_roles_have_their_keys_thresholds_and_times(repository: Repository) -> None:
    root = repository._root()
    assert {role: (len(found.keyids), found.threshold) for role, found in root.roles.items()} == {
        "root": (2, 2),
        "targets": (1, 1),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert root.consistent_snapshot
    assert DAYS == {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1}
    assert len(root.keys) == 5
    secrets = list(repository._keys().folder.glob("*.pem"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)
    encrypted = {path.stem for path in secrets if b"ENCRYPTED" in path.read_bytes()}
    assert encrypted == {"root1", "root2", "targets"}


def test_what_is_measured_of_a_model_is_signed_with_it(repository: Repository) -> None:
    publish(repository, minimum=1, runtime=(2, 1))
    (release,) = repository.releases()
    manifest = json.loads((RECOGNIZER / "bundle.json").read_bytes())
    part = release.parts["recognizer"]
    assert part.model == manifest["files"]["model.tflite"]
    assert part.golden == manifest["files"]["golden.npz"]
    (size,) = (gate for gate in manifest["gates"] if gate["name"] == "size_mb")
    assert part.gates["size_mb"] == [round(size["figure"] * 1e6), round(size["bound"] * 1e6)]
    assert part.thresholds["0.001"] == round(manifest["thresholds"]["0.001"] * 1e6)
    assert (release.minimum, release.runtime) == (1, [2, 1])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"gates": [{**GATE, "passed": False}, {**GATE, "name": "fine"}]},
            r"did not pass size_mb; it is not published",
        ),
        ({"gates": [{**GATE, "passed": "yes"}]}, "did not pass size_mb"),
    ],
)
def test_a_bundle_whose_gates_failed_is_not_published(
    changes: dict[str, object], match: str, repository: Repository, tmp_path: Path
) -> None:
    bundle = variant(RECOGNIZER, tmp_path / "bundle", **changes)
    before = sorted(repository.folder.rglob("*"))
    with pytest.raises(ValueError, match=match):
        publish(repository, bundle.path)
    assert sorted(repository.folder.rglob("*")) == before


def test_a_bundle_that_was_never_evaluated_or_is_of_the_other_task_is_not_published(
    repository: Repository, tmp_path: Path
) -> None:
    from slimcam.deploy.inference.bundle import load_bundle, write_bundle

    one = load_bundle(RECOGNIZER)
    facts = {name: getattr(one, name) for name in ("name", "task", "input", "golden_input", "golden_output", "license")}
    bare = write_bundle(tmp_path / "bare", **facts, model=one.model.read_bytes(), provenance={}, card="")
    with pytest.raises(ValueError, match="has no gates: it was never evaluated"):
        publish(repository, bare.path)
    with pytest.raises(ValueError, match="is for detection; a recognizer is for recognition"):
        publish(repository, DETECTOR)


def test_numbers_go_on_after_a_release_was_withdrawn(repository: Repository) -> None:
    assert [publish(repository), publish(repository)] == [1, 2]
    repository.withdraw(2)
    with pytest.raises(ValueError, match="release 2 is withdrawn; publish its bundles again"):
        repository.promote(2, {"stable": 100})
    assert publish(repository) == 3
    with pytest.raises(ValueError, match="there is no release 9; known are 1, 2, 3"):
        repository.withdraw(9)


def test_a_publication_that_broke_off_was_not_made(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file is the last to be written before the timestamp."""
    publish(repository)
    real = repository_module.write_durably
    for stop in range(1, 6):
        written = 0

        def write(path: Path, content: bytes, stop: int = stop) -> None:
            nonlocal written
            written += 1
            if written == stop:
                raise OSError("the disk is full")
            real(path, content)

        monkeypatch.setattr(repository_module, "write_durably", write)
        with pytest.raises(OSError, match="disk is full"):
            publish(repository)
        monkeypatch.setattr(repository_module, "write_durably", real)
        assert [release.number for release in repository.releases()] == [1]
    assert publish(repository) == 2


@pytest.mark.usefixtures("no_trial")
@pytest.mark.parametrize("name", ["root1", "root2", "targets", "snapshot", "timestamp"])
def test_devices_follow_a_rotated_key(name: str, repository: Repository, make_device: Callable[..., Device]) -> None:
    publish(repository)
    device = make_device()
    device.take()
    old = repository.rotate(name)
    assert all(old not in role.keys for role in repository.status())
    again = Repository(repository.folder, Keyring(repository._keys().folder))
    publish(again)
    assert device.take().release == 2
    assert make_device("new").take().release == 2  # by way of the first root


@pytest.mark.usefixtures("no_trial")
def test_a_root_key_without_a_copy_is_lost_with_its_repository_and_devices_start_with_another(
    repository: Repository, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    for _ in range(2):
        publish(repository)
    device = make_device()
    device.take()
    (repository._keys().folder / "root1.pem").unlink()
    other = new_repository(tmp_path / "other")
    publish(other)
    with serve(other.folder) as server:
        # The old root does not take it, and neither does the old folder, by its minimum.
        device.settings = replace(device.settings, url=server.url)
        with pytest.raises(ValueError, match="not signed by the keys that are trusted"):
            device.look()
        Path(device.settings.root).write_bytes(other.root_bytes())
        with pytest.raises(ValueError, match="takes none below 2"):
            device.look()
        shutil.rmtree(device.folder)
        device.folder.mkdir()
        assert device.take().release == 1


def test_a_rotation_needs_both_root_keys_and_changes_nothing_without(repository: Repository) -> None:
    (repository._keys().folder / "root2.pem").rename(repository._keys().folder / "elsewhere.pem")
    before = sorted(repository.folder.rglob("*")), sorted(repository._keys().folder.iterdir())
    with pytest.raises(FileNotFoundError, match=r"root2\.pem: the key .* is not there; bring its medium"):
        Repository(repository.folder, Keyring(repository._keys().folder)).rotate("timestamp")
    assert (sorted(repository.folder.rglob("*")), sorted(repository._keys().folder.iterdir())) == before


def test_a_rotation_that_broke_off_is_ended_by_the_renewal(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)
    monkeypatch.setattr(repository, "_put", lambda _files: None)  # the power fails after the new root
    repository.rotate("targets")
    monkeypatch.undo()
    monkeypatch.setenv(PASSPHRASE, "correct horse battery staple")
    assert repository.renew(DAYS) == ["targets"]
    root, name = repository._root(), f"{repository.status()[1].version}.targets.json"
    metadata: Metadata = Metadata.from_bytes((repository.metadata / name).read_bytes())
    root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)


def test_what_expires_soon_is_signed_anew(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository.renew() == []
    monkeypatch.setitem(DAYS, "timestamp", 0)
    publish(repository)
    monkeypatch.setitem(DAYS, "timestamp", 1)
    versions = {role.role: role.version for role in repository.status()}
    assert repository.renew() == ["timestamp"]
    after = {role.role: role.version for role in repository.status()}
    assert after == {**versions, "timestamp": versions["timestamp"] + 1}
    # Unattended: no passphrase is needed for it.
    monkeypatch.delenv(PASSPHRASE)
    again = Repository(repository.folder, Keyring(repository._keys().folder))
    assert again.renew(early=2) == ["snapshot", "timestamp"]


def test_mistakes_are_told_before_anything_is_written(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileExistsError, match="is a repository already"):
        repository.create({})
    with pytest.raises(ValueError, match="lies in the public folder"):
        Repository(repository.folder, Keyring(repository.folder / "keys"))
    with pytest.raises(FileNotFoundError, match="is no repository; slimcam-ota init"):
        publish(Repository(tmp_path / "none", Keyring(tmp_path / "keys")))
    with pytest.raises(ValueError, match="which key"):
        repository.rotate("root3")
    monkeypatch.setenv(PASSPHRASE, "another passphrase")
    with pytest.raises(ValueError, match="the passphrase is not this key's"):
        publish(Repository(repository.folder, Keyring(repository._keys().folder)))
    monkeypatch.setenv(PASSPHRASE, "short")
    with pytest.raises(ValueError, match="needs 12 characters or more"):
        Repository(tmp_path / "other", Keyring(tmp_path / "other keys")).create({})
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(ValueError, match="put it into SLIMCAM_OTA_PASSPHRASE_TARGETS"):
        publish(Repository(repository.folder, Keyring(repository._keys().folder)))
