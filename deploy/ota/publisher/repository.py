"""The publisher's TUF repository: a public folder that any web server serves.

metadata/N.root.json, N.targets.json, N.snapshot.json, timestamp.json     signed; consistent snapshots
targets/releases/NUMBER/SHA256.PART.tar                                   archives of bundles

A change is made when `timestamp.json` is replaced: what was written before that is seen by nobody. A new root is the
exception, for devices ask for the next number.

Reference: https://theupdateframework.github.io/specification/latest/
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from slimcam.deploy.inference.bundle import GOLDEN, MANIFEST, MODEL, Bundle, load_bundle
from slimcam.deploy.ota.archive import pack
from slimcam.deploy.ota.durable import make_folder, write_durably
from slimcam.deploy.ota.publisher.keys import Keyring
from slimcam.deploy.ota.release import (
    MILLION,
    PARTS,
    Part,
    Release,
    read_release,
    release_numbers,
    target_name,
)

DAYS = {Root.type: 365, Targets.type: 90, Snapshot.type: 7, Timestamp.type: 1}
"""How long each role's signature is believed."""

ONLINE = (Snapshot.type, Timestamp.type)
"""Roles whose keys lie on a machine that signs unattended."""

ROOT_KEYS = 2
"""All of which must sign a new root."""

TASKS = {"detector": "detection", "recognizer": "recognition"}

S = TypeVar("S", bound=Signed)


@dataclass(frozen=True)
class RoleStatus:
    """A role as devices see it: its version, when it expires, and the ids of its keys."""

    role: str
    version: int
    expires: datetime
    keys: tuple[str, ...]


class Repository:
    """A repository and the keys that sign it.

    Args:
        folder: Public folder.
        keyring: Keys that sign; None where nothing is to be signed.

    Raises:
        ValueError: the keys would lie in the public folder.
    """

    def __init__(self, folder: Path, keyring: Keyring | None = None) -> None:
        if keyring is not None and keyring.folder.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"keys={keyring.folder} lies in the public folder {folder}; choose another place for keys")
        self.folder, self._keyring = folder, keyring
        self.metadata, self.targets = folder / "metadata", folder / "targets"

    # What is done

    def create(self, keys: Mapping[str, str | None]) -> None:
        """Makes keys and the first root, without a release.

        Args:
            keys: Places of the keys `root1`, `root2`, `targets`, `snapshot` and `timestamp`: a file's path, an `hsm:`
                URI, or None for a file beside the keyring.

        Raises:
            FileExistsError: there is a repository, or a key.
        """
        if self._root_version():
            raise FileExistsError(f"{self.folder} is a repository already; choose another folder")
        root, uris = Root(expires=self._expiry(Root.type), consistent_snapshot=True), {}
        roles = {f"{Root.type}{number}": Root.type for number in range(1, ROOT_KEYS + 1)}
        roles |= {role: role for role in (Targets.type, *ONLINE)}
        with self._keys().making():
            for name, role in roles.items():
                uri, key = self._keys().make(name, where=keys.get(name), encrypted=role not in ONLINE)
                root.add_key(key, role)
                uris[key.keyid] = uri
            root.roles[Root.type].threshold = ROOT_KEYS
            self._keys().keep(uris)
            signed = self._signed(root, root)
            files = self._prepared(root, Targets(expires=self._expiry(Targets.type)), resign=True, first=True)
        for folder in (self.metadata, self.targets):
            make_folder(folder)
        self._put(files)
        self._write_root(signed)

    def publish(
        self,
        detector: Path,
        recognizer: Path,
        *,
        rings: Mapping[str, int],
        minimum: int = 0,
        runtime: Sequence[int] = (0,),
        slowdown: int = 150,
    ) -> Release:
        """Adds a release under the next number.

        Raises:
            ValueError: a bundle is damaged, of the other task, or did not pass its gates.
            FileNotFoundError: a bundle is missing.
        """
        root, targets = self._root(), self._load(Targets)
        number = max(release_numbers(targets.targets), default=0) + 1
        archives: dict[str, bytes] = {}
        parts: dict[str, Part] = {}
        for name, folder in zip(PARTS, (detector, recognizer), strict=True):
            bundle = load_bundle(folder)
            _check(bundle, name)
            archives[name] = pack(folder)
            parts[name] = _part(bundle, archives[name])
        release = Release(number, parts, minimum or 0, list(runtime), slowdown, dict(rings))
        for name, content in archives.items():
            path = self.targets / _hashed(target_name(number, name), parts[name].archive)
            make_folder(path.parent)
            write_durably(path, content)
        self._set(targets, release)
        self._write(root, targets)
        return release

    def promote(self, number: int, rings: Mapping[str, int]) -> Release:
        """Gives a release to a share of a ring.

        Raises:
            ValueError: there is no such release, or it is withdrawn.
        """
        root, targets = self._root(), self._load(Targets)
        release = self._release(targets, number)
        if release.withdrawn:
            raise ValueError(f"release {number} is withdrawn; publish its bundles again, under a new number")
        release = replace(release, rings={**release.rings, **rings})
        self._set(targets, release)
        self._write(root, targets)
        return release

    def withdraw(self, number: int) -> Release:
        """Stops a release: no device takes it any more. Those that run it go on until a newer one comes.

        Raises:
            ValueError: there is no such release.
        """
        root, targets = self._root(), self._load(Targets)
        release = replace(self._release(targets, number), withdrawn=True)
        self._set(targets, release)
        self._write(root, targets)
        return release

    def rotate(self, name: str, where: str | None = None) -> str:
        """Replaces a key: `targets`, `snapshot`, `timestamp`, or a root key by the number in its name, `root1`.

        The new root is signed by the old root keys and the new ones, as devices want it.

        Returns:
            The id of the key that holds no more.

        Raises:
            ValueError: there is no such key.
            OSError: a root key is not there.
        """
        role, position = (Root.type, int(name[4:]) - 1) if re.fullmatch(r"root[1-9]", name) else (name, 0)
        root = self._root()
        if role not in root.roles or position >= len(root.roles[role].keyids):
            raise ValueError(f"which key? root1 to root{ROOT_KEYS}, targets, snapshot or timestamp; got {name!r}")
        old_root = deepcopy(root)
        for keyid in old_root.roles[Root.type].keyids:
            self._keys().signer(old_root.keys[keyid])  # before a key is made, find out whether it can be used
        old = root.roles[role].keyids[position]
        version = root.version + 1
        file = where or str(self._keys().folder / f"{name}-{version}.pem")
        with self._keys().making():
            uri, key = self._keys().make(f"{name}-{version}", where=file, encrypted=role not in ONLINE)
            root.revoke_key(old, role)
            root.add_key(key, role)
            # The order of root keys is their names': the new one takes the place of the old.
            root.roles[role].keyids.remove(key.keyid)
            root.roles[role].keyids.insert(position, key.keyid)
            root.version, root.expires = version, self._expiry(Root.type)
            self._keys().keep({key.keyid: uri})
            # All is signed before anything is written: a key that is missing must not stop us half-way.
            signed = self._signed(root, root, old_root)
            files = [] if role == Root.type else self._prepared(root, self._load(Targets), resign=role == Targets.type)
        self._write_root(signed)
        self._put(files)
        return old

    def renew(self, roles: Iterable[str] = ONLINE, *, early: float = 0.5) -> list[str]:
        """Signs roles again whose time is short, or whose key is not the root's any more since a rotation broke off.

        Args:
            early: Share of its time that a role may have left.

        Returns:
            Those that were signed; with the snapshot its timestamp is.
        """
        now, root = datetime.now(timezone.utc), self._root()
        due = []
        for status in self.status():
            left = (status.expires - now) / timedelta(days=DAYS[status.role])
            if status.role in roles and (left <= early or not self._verified(root, status)):
                due.append(status.role)
        if Root.type in due:
            root.version, root.expires = root.version + 1, self._expiry(Root.type)
            self._write_root(self._signed(root, root))
        if set(due) - {Root.type}:
            resign = Targets.type in due
            snapshot = resign or Snapshot.type in due
            self._put(self._prepared(root, self._load(Targets), resign=resign, snapshot=snapshot))
        return due

    # What there is

    def releases(self) -> list[Release]:
        """All of them, ascending."""
        targets = self._load(Targets)
        return [self._release(targets, number) for number in release_numbers(targets.targets)]

    def status(self) -> list[RoleStatus]:
        root = self._root()
        signed: dict[str, Signed] = {Root.type: root}
        for kind in (Targets, Snapshot, Timestamp):
            signed[kind.type] = self._load(kind)
        return [
            RoleStatus(role, signed[role].version, signed[role].expires, tuple(root.roles[role].keyids))
            for role in DAYS
        ]

    def root_bytes(self, version: int = 1) -> bytes:
        """A root as devices are given it, on a way that is trusted."""
        return (self.metadata / f"{version}.root.json").read_bytes()

    # How

    def _keys(self) -> Keyring:
        if self._keyring is None:
            raise ValueError("where are the keys? give keys=FOLDER")
        return self._keyring

    def _release(self, targets: Targets, number: int) -> Release:
        names = {part: target_name(number, part) for part in PARTS}
        if not any(name in targets.targets for name in names.values()):
            known = ", ".join(map(str, release_numbers(targets.targets))) or "none"
            raise ValueError(f"there is no release {number}; known are {known}")
        return read_release({part: targets.targets[name].custom for part, name in names.items()}, number)

    def _set(self, targets: Targets, release: Release) -> None:
        for name, part in release.parts.items():
            target = target_name(release.number, name)
            path = self.targets / _hashed(target, part.archive)
            file = TargetFile.from_data(target, path.read_bytes(), ["sha256"])
            file.unrecognized_fields["custom"] = release.custom()
            targets.targets[target] = file

    def _write(self, root: Root, targets: Targets) -> None:
        self._put(self._prepared(root, targets, resign=True))

    def _prepared(
        self, root: Root, targets: Targets, *, resign: bool, snapshot: bool = True, first: bool = False
    ) -> list[tuple[str, bytes]]:
        """Files to write, in their order, the timestamp last."""
        files = []
        if resign:
            if not first:
                targets.version += 1
            targets.expires = self._expiry(Targets.type)
            files.append((f"{targets.version}.{Targets.type}.json", self._signed(targets, root)))
        latest = Snapshot(expires=self._expiry(Snapshot.type)) if first else self._load(Snapshot)
        if resign or snapshot:
            if not first:
                latest.version += 1
            latest.expires = self._expiry(Snapshot.type)
            latest.meta[f"{Targets.type}.json"] = MetaFile(targets.version)
            files.append((f"{latest.version}.{Snapshot.type}.json", self._signed(latest, root)))
        timestamp = Timestamp(expires=self._expiry(Timestamp.type)) if first else self._load(Timestamp)
        if not first:
            timestamp.version += 1
        timestamp.expires = self._expiry(Timestamp.type)
        timestamp.snapshot_meta = MetaFile(latest.version)
        return [*files, (f"{Timestamp.type}.json", self._signed(timestamp, root))]

    def _put(self, files: Iterable[tuple[str, bytes]]) -> None:
        for name, content in files:
            write_durably(self.metadata / name, content)

    def _write_root(self, content: bytes) -> None:
        version = Metadata[Root].from_bytes(content).signed.version
        write_durably(self.metadata / f"{version}.{Root.type}.json", content)

    def _signed(self, signed: Signed, *roots: Root) -> bytes:
        """Its bytes with the signatures of all keys that the roots name for its role."""
        metadata: Metadata[Any] = Metadata(signed)
        keys: dict[str, Key] = {}
        for root in roots:
            keys |= {keyid: root.keys[keyid] for keyid in root.roles[signed.type].keyids}
        for key in keys.values():
            signer = self._keys().signer(key)
            try:
                metadata.sign(signer, append=True)
            except UnsignedMetadataError as error:
                reason = error.__cause__ or error
                raise ValueError(f"the key {key.keyid[:12]}... does not sign: {str(reason) or repr(reason)}") from error
        for root in roots:
            root.verify_delegate(signed.type, metadata.signed_bytes, metadata.signatures)
        return metadata.to_bytes()

    def _root_version(self) -> int:
        names = (re.fullmatch(r"(\d+)\.root\.json", path.name) for path in self.metadata.glob("*.root.json"))
        return max((int(found[1]) for found in names if found), default=0)

    def _root(self) -> Root:
        version = self._root_version()
        if not version:
            raise FileNotFoundError(
                f"{self.folder} is no repository; slimcam-ota init repository={self.folder} makes one"
            )
        return self._read(f"{version}.root.json", Root)

    def _verified(self, root: Root, status: RoleStatus) -> bool:
        name = f"{status.role}.json" if status.role == Timestamp.type else f"{status.version}.{status.role}.json"
        metadata: Metadata[Any] = Metadata.from_bytes((self.metadata / name).read_bytes())
        try:
            root.verify_delegate(status.role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError:
            return False
        return True

    def _load(self, kind: type[S]) -> S:
        """The version that devices see, by way of the timestamp: what is newer was never published."""
        timestamp = self._read("timestamp.json", Timestamp)
        if kind is Timestamp:
            return timestamp  # type: ignore[return-value]
        snapshot = self._read(f"{timestamp.snapshot_meta.version}.snapshot.json", Snapshot)
        if kind is Snapshot:
            return snapshot  # type: ignore[return-value]
        return self._read(f"{snapshot.meta['targets.json'].version}.targets.json", kind)

    def _read(self, name: str, kind: type[S]) -> S:
        path = self.metadata / name
        try:
            signed: Any = Metadata.from_bytes(path.read_bytes()).signed
        except RepositoryError as error:
            raise ValueError(f"{path} is damaged ({error}); bring a copy of the repository back") from error
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing; bring a copy of the repository back") from error
        assert isinstance(signed, kind)
        return signed

    @staticmethod
    def _expiry(role: str) -> datetime:
        return (datetime.now(timezone.utc) + timedelta(days=DAYS[role])).replace(microsecond=0)


def _hashed(target: str, sha256: str) -> str:
    """Where a consistent snapshot keeps a target."""
    folder, _, name = target.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def _check(bundle: Bundle, part: str) -> None:
    if bundle.task != TASKS[part]:
        raise ValueError(f"bundle {bundle.path} is for {bundle.task}; a {part} is for {TASKS[part]}")
    if not bundle.gates:
        raise ValueError(
            f"bundle {bundle.path} has no gates: it was never evaluated; run the pipeline's evaluation first"
        )
    if failed := [str(gate.get("name")) for gate in bundle.gates if gate.get("passed") is not True]:
        raise ValueError(f"bundle {bundle.path} did not pass {', '.join(failed)}; it is not published")


def _part(bundle: Bundle, archive: bytes) -> Part:
    manifest = (bundle.path / MANIFEST).read_bytes()
    return Part(
        archive=hashlib.sha256(archive).hexdigest(),
        manifest=hashlib.sha256(manifest).hexdigest(),
        model=hashlib.sha256((bundle.path / MODEL).read_bytes()).hexdigest(),
        golden=hashlib.sha256((bundle.path / GOLDEN).read_bytes()).hexdigest(),
        gates={str(gate["name"]): [_millionths(gate["figure"]), _millionths(gate["bound"])] for gate in bundle.gates},
        thresholds={rate: _millionths(score) for rate, score in bundle.thresholds.items()},
    )


def _millionths(figure: float) -> int:
    if not math.isfinite(figure):
        raise ValueError(f"a figure that is signed must be finite; got {figure}")
    return round(figure * MILLION)
