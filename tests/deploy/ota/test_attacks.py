"""Attacks on the way of a release, named as python-tuf names its tests: each is refused, the camera keeps its model and
the state says why."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.ota.device.fetcher import LimitedFetcher
from slimcam.deploy.ota.publisher import repository as repository_module
from slimcam.deploy.ota.publisher.repository import Repository
from slimcam.deploy.ota.release import target_name
from tests.deploy.ota.conftest import Device
from tests.deploy.ota.releases import Server, content, new_repository, publish

pytestmark = pytest.mark.usefixtures("no_trial")


@pytest.fixture
def victim(repository: Repository, make_device: Callable[..., Device]) -> Device:
    """A device that runs release 1 of two that it has seen."""
    publish(repository)
    device = make_device()
    device.take()
    return device


def check_refused(device: Device, why: str) -> None:
    before = device.state
    with pytest.raises((ValueError, OSError, RuntimeError), match=why) as caught:
        device.look()
    after = device.state
    assert "\n" not in str(caught.value)
    assert after.error == " ".join(str(caught.value).split())
    assert (after.current, after.ready, after.trial) == (before.current, None, None)
    assert after.current is not None
    assert after.current.release == 1
    assert not device.slots.damage(after.current)
    assert not list(device.folder.rglob("*.partial"))


def timestamp_of(repository: Repository, **changes: Any) -> bytes:
    """A timestamp that is signed with the timestamp's key, as whoever has stolen it can."""
    timestamp = Metadata[Timestamp].from_bytes((repository.metadata / "timestamp.json").read_bytes()).signed
    timestamp.version += 1
    for name, value in changes.items():
        setattr(timestamp, name, value)
    return repository._signed(timestamp, repository._root())


def test_new_timestamp_version_rollback(victim: Device, repository: Repository, server: Server) -> None:
    old = (repository.metadata / "timestamp.json").read_bytes()
    publish(repository)
    victim.look()  # has seen the new one
    victim.file.change(lambda state: replace(state, ready=None))
    server.answers["/metadata/timestamp.json"] = content(old)
    check_refused(victim, "older than what was seen before.*timestamp version")


def test_replayed_timestamp_is_believed_no_longer_than_it_is_valid(
    victim: Device, repository: Repository, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/metadata/timestamp.json"] = content((repository.metadata / "timestamp.json").read_bytes())
    publish(repository)
    assert victim.look().available is None  # the attacker hides release 2, for a day at most
    later = time.time() + 86_400 * 1.01

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime.fromtimestamp(later, tz)

    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime.datetime", Clock)
    check_refused(victim, "out of date.*timestamp.json is expired")


def test_new_snapshot_version_rollback(victim: Device, repository: Repository, server: Server) -> None:
    snapshot = (
        Metadata[Timestamp].from_bytes((repository.metadata / "timestamp.json").read_bytes()).signed.snapshot_meta
    )
    old = type(snapshot)(snapshot.version - 1)
    server.answers["/metadata/timestamp.json"] = content(timestamp_of(repository, snapshot_meta=old))
    check_refused(victim, "older than what was seen before.*snapshot version")


def test_new_targets_version_rollback(victim: Device, repository: Repository) -> None:
    """By an attacker with both online keys."""
    publish(repository)
    victim.look()
    victim.file.change(lambda state: replace(state, ready=None))
    root, snapshot = repository._root(), repository._load(Snapshot)
    snapshot.version += 1
    snapshot.meta["targets.json"].version -= 1
    signed = repository._signed(snapshot, root)
    (repository.metadata / f"{snapshot.version}.snapshot.json").write_bytes(signed)
    meta = type(snapshot.meta["targets.json"])(snapshot.version)
    (repository.metadata / "timestamp.json").write_bytes(timestamp_of(repository, snapshot_meta=meta))
    check_refused(victim, "older than what was seen before.*targets.json version")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_metadata_freezes_nobody(
    role: str, victim: Device, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(repository_module.DAYS, role, -1)
    publish(repository)
    check_refused(victim, "out of date, or this device's clock is wrong.*expired")


def test_expired_root(victim: Device, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(repository_module.DAYS, "root", -1)
    repository.renew(["root"], early=2)
    check_refused(victim, "out of date.*root.json is expired")


def test_new_targets_version_mismatch_mix_and_match(victim: Device, repository: Repository, server: Server) -> None:
    """Targets of one moment with the snapshot of another."""
    old = (repository.metadata / "2.targets.json").read_bytes()
    publish(repository)
    server.answers["/metadata/3.targets.json"] = content(old)
    check_refused(victim, "of another moment.*Expected targets v3")


def test_new_snapshot_version_mismatch_mix_and_match(victim: Device, repository: Repository, server: Server) -> None:
    old = (repository.metadata / "2.snapshot.json").read_bytes()
    publish(repository)
    server.answers["/metadata/3.snapshot.json"] = content(old)
    check_refused(victim, "of another moment.*Expected snapshot version 3")


def test_detector_of_one_release_with_recognizer_of_another(victim: Device, repository: Repository) -> None:
    publish(repository)
    publish(repository)
    targets = repository._load(Targets)
    targets.targets[target_name(3, "detector")].unrecognized_fields["custom"] = targets.targets[
        target_name(2, "detector")
    ].custom
    repository._write(repository._root(), targets)
    check_refused(victim, "release 3 is described as release 2|of different releases")


def test_release_without_its_detector(victim: Device, repository: Repository) -> None:
    publish(repository)
    targets = repository._load(Targets)
    del targets.targets[target_name(2, "detector")]
    repository._write(repository._root(), targets)
    check_refused(victim, "release 2 has no detector: it is both parts or none")


def test_target_other_than_its_description(victim: Device, repository: Repository) -> None:
    publish(repository)
    targets = repository._load(Targets)
    one, other = (targets.targets[target_name(2, part)] for part in ("detector", "recognizer"))
    one.hashes, one.length = other.hashes, other.length
    repository._write(repository._root(), targets)
    check_refused(victim, "its description is of other archives")


def endless(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(4000):  # 256 MB, unless the other side hangs up
            handler.wfile.write(bytes(65536))
    except OSError:
        handler.server.hung_up = True  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json", "3.targets.json", "2.root.json"])
def test_endless_data_as_metadata(name: str, victim: Device, repository: Repository, server: Server) -> None:
    publish(repository)
    server.answers[f"/metadata/{name}"] = endless
    check_refused(victim, "longer than it may be")


def test_endless_data_as_target(victim: Device, repository: Repository, server: Server) -> None:
    publish(repository)
    server.answers[path_of(repository, 2, "recognizer")] = endless
    check_refused(victim, "longer than it may be")


def path_of(repository: Repository, number: int, part: str) -> str:
    digest = repository.releases()[number - 1].parts[part].archive
    return f"/targets/releases/{number}/{digest}.{part}.tar"


@pytest.mark.parametrize("what", ["metadata", "target"])
def test_slow_retrieval(
    what: str, victim: Device, repository: Repository, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends a byte now and then never runs into the socket's timeout."""
    publish(repository)

    def drip(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _ in range(600):
                handler.wfile.write(b"1\r\n{\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    monkeypatch.setattr(
        "slimcam.deploy.ota.device.update.LimitedFetcher", lambda limit: LimitedFetcher(limit, patience=0.5, timeout=5)
    )
    path = "/metadata/timestamp.json" if what == "metadata" else path_of(repository, 2, "detector")
    server.answers[path] = drip
    begin = time.monotonic()
    check_refused(victim, "came too slowly")
    assert time.monotonic() - begin < 5


def test_silent_server(victim: Device, repository: Repository, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(repository)
    server.answers[path_of(repository, 2, "detector")] = lambda _handler: time.sleep(3)
    monkeypatch.setattr(
        "slimcam.deploy.ota.device.update.LimitedFetcher", lambda limit: LimitedFetcher(limit, timeout=1)
    )
    monkeypatch.setattr("urllib3.util.retry.Retry.DEFAULT_BACKOFF_MAX", 0)
    check_refused(victim, "too slowly|cannot be fetched")


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json", "3.targets.json"])
def test_wrong_key(name: str, victim: Device, repository: Repository, server: Server, tmp_path: Path) -> None:
    """Everything as it should be, but signed by somebody else."""
    publish(repository)
    stranger = new_repository(tmp_path / "stranger")
    for _ in range(2):
        publish(stranger)
    server.answers[f"/metadata/{name}"] = content((stranger.metadata / name).read_bytes())
    check_refused(victim, "not signed by the keys that are trusted")


def test_new_root_signed_by_one_of_two_keys(victim: Device, repository: Repository, server: Server) -> None:
    repository.renew(["root"], early=2)
    metadata = Metadata[Root].from_bytes((repository.metadata / "2.root.json").read_bytes())
    metadata.signatures.pop(next(iter(metadata.signatures)))
    server.answers["/metadata/2.root.json"] = content(metadata.to_bytes())
    check_refused(victim, "not signed by the keys that are trusted.*root was signed by 1/2")


def test_new_root_version_skipped(victim: Device, repository: Repository, server: Server) -> None:
    repository.renew(["root"], early=2)
    repository.renew(["root"], early=2)
    server.answers["/metadata/2.root.json"] = content((repository.metadata / "3.root.json").read_bytes())
    check_refused(victim, "of another moment.*Expected root version 2")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rotated_out_key(role: str, victim: Device, repository: Repository, server: Server) -> None:
    """By whoever stole a key that the root has revoked since."""
    old_root = repository._root()
    repository.rotate(role)
    victim.look()
    root, kind = repository._root(), {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}[role]
    publish(repository)
    signed = repository._load(kind)  # type: ignore[type-var]
    signed.version += role == "timestamp"
    forged = Metadata(signed)
    (keyid,) = old_root.roles[role].keyids
    assert keyid not in root.roles[role].keyids
    forged.sign(repository._keys().signer(old_root.keys[keyid]))
    name = f"{role}.json" if role == "timestamp" else f"{signed.version}.{role}.json"
    server.answers[f"/metadata/{name}"] = content(forged.to_bytes())
    check_refused(victim, "not signed by the keys that are trusted")


def test_targets_hash_mismatch_tampered_target(victim: Device, repository: Repository, server: Server) -> None:
    publish(repository)
    path = path_of(repository, 2, "recognizer")
    data = bytearray((repository.folder / path[1:]).read_bytes())
    data[len(data) // 2] ^= 1
    server.answers[path] = content(bytes(data))
    check_refused(victim, "the recognizer is refused: it was altered")
    # What came whole before is not fetched again once the server is in order.
    server.answers.clear()
    server.asked.clear()
    assert victim.look().ready is not None
    assert path_of(repository, 2, "detector") not in server.asked


def test_truncated_target(victim: Device, repository: Repository, server: Server) -> None:
    publish(repository)
    path = path_of(repository, 2, "recognizer")
    server.answers[path] = content((repository.folder / path[1:]).read_bytes()[:-512])
    check_refused(victim, "it was altered")


def test_download_that_is_altered_on_the_device_is_fetched_again(
    victim: Device, repository: Repository, server: Server
) -> None:
    publish(repository)
    path = path_of(repository, 2, "recognizer")
    server.answers[path] = lambda handler: handler.send_error(500)
    check_refused(victim, "answers 500")
    (kept,) = (victim.folder / "incoming").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    server.answers.clear()
    assert victim.look().ready is not None


def test_signed_older_model(repository: Repository, make_device: Callable[..., Device]) -> None:
    """TUF takes it, for the metadata is newer: the device's own minimum does not."""
    for _ in range(2):
        publish(repository)
    device = make_device()
    device.take()
    assert device.state.release == 2
    targets = repository._load(Targets)
    for part in ("detector", "recognizer"):
        del targets.targets[target_name(2, part)]
    repository._write(repository._root(), targets)
    with pytest.raises(ValueError, match=r"newest release is 1.*takes none below 2: an older one is not taken"):
        device.look()
    assert device.state.release == 2
    assert device.state.error
    # The minimum outlives the model: one whose slot is damaged falls back to the software's models, no further.
    assert device.state.current is not None
    (device.slots.bundle(device.state.current, "detector") / "model.tflite").write_bytes(b"")
    state, told = device.slots.start()
    assert state.current is None
    assert "damaged" in told
    with pytest.raises(ValueError, match="takes none below 2"):
        device.look()


def test_over_long_metadata(victim: Device, repository: Repository, server: Server) -> None:
    """Signed, but longer than a timestamp may be."""
    extra = {"padding": "x" * 20_000}
    server.answers["/metadata/timestamp.json"] = content(timestamp_of(repository, unrecognized_fields=extra))
    check_refused(victim, "longer than it may be")


def test_metadata_that_is_none(victim: Device, server: Server) -> None:
    for data in (b"", b"{", b"[]", b'{"signed": {}, "signatures": []}', b"\xff\xfe", b"[" * 10_000):
        server.answers["/metadata/timestamp.json"] = content(data)
        check_refused(victim, "the server's metadata is refused: it is no valid metadata")


@pytest.mark.parametrize(
    "name",
    [
        "../state.json",
        "../../root.json",
        "/etc/passwd",
        "releases/../../../state.json",
        "releases/2/detector.tar/../../x",
        "releases/02/detector.tar",
        "releases/2/detector.tar\n",
        "releases/2/..",
        "releases/99999999999/detector.tar",
        "releases/-1/detector.tar",
        "releases/2/C:\\x",
        "RELEASES/2/detector.tar",
    ],
)
def test_path_tricks_in_target_names(name: str, victim: Device, repository: Repository) -> None:
    before = sorted(path for path in victim.folder.parent.rglob("*") if "metadata" not in path.parts)
    targets = repository._load(Targets)
    file = TargetFile.from_data(name, RECOGNIZER.joinpath("bundle.json").read_bytes())
    file.unrecognized_fields["custom"] = targets.targets[target_name(1, "detector")].custom
    targets.targets[name] = file
    repository._write(repository._root(), targets)
    state = victim.look()
    assert (state.release, state.ready, state.available) == (1, None, None)
    assert sorted(path for path in victim.folder.parent.rglob("*") if "metadata" not in path.parts) == before


def test_fast_forward_is_recovered_from_by_new_keys(victim: Device, repository: Repository) -> None:
    """Whoever has the online keys can make devices wait for version 1,000,000; new keys undo it."""
    meta = type(repository._load(Timestamp).snapshot_meta)(repository._load(Snapshot).version)
    forged = timestamp_of(repository, version=1_000_000, snapshot_meta=meta)
    good = (repository.metadata / "timestamp.json").read_bytes()
    (repository.metadata / "timestamp.json").write_bytes(forged)
    victim.look()
    (repository.metadata / "timestamp.json").write_bytes(good)
    check_refused(victim, "older than what was seen before")
    for role in ("snapshot", "timestamp"):
        repository.rotate(role)
    publish(repository)
    assert victim.look().available == 2
