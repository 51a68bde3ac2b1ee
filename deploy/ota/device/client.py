"""What a device believes of a server: TUF's client, with metadata and downloads that survive a loss of power.

python-tuf's client replaces its files without syncing them. It works on a copy here; what it verified is then written
durably, so that the versions by which rollback is noticed are never lost. Targets' names choose no path on the device.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from slimcam.deploy.ota.archive import LARGEST
from slimcam.deploy.ota.device.fetcher import LimitedFetcher
from slimcam.deploy.ota.durable import make_folder, write_durably
from slimcam.deploy.ota.release import PARTS, Release, read_release, release_numbers, target_name

_STEADY = ("timestamp.json", "snapshot.json", "targets.json")


class UpdateRefusedError(ValueError):
    """What the server gives is not what was signed, or not the newest: it is not used."""


class Client:
    """Looks at a server and downloads from it. One process at a time may use a folder.

    Args:
        url: Address of the repository, with the folders `metadata` and `targets`.
        root: First root that is trusted, as it came with the device.
        folder: Folder of the device's slots and state.
        fetcher: Fetcher of what is downloaded.

    Attributes:
        problems: Reasons why signed releases cannot be used, by number; of the last look.
    """

    def __init__(self, url: str, root: bytes, folder: Path, fetcher: FetcherInterface | None = None) -> None:
        self._url, self._root, self._fetcher = url.rstrip("/"), root, fetcher or LimitedFetcher()
        self._metadata, self._incoming, self._scratch = folder / "metadata", folder / "incoming", folder / "scratch"
        self._targets: dict[int, dict[str, TargetFile]] = {}
        self.problems: dict[int, str] = {}

    @contextmanager
    def look(self) -> Iterator[list[Release]]:
        """The releases that are signed, ascending, and a session in which they can be downloaded.

        Names of targets that are none of a release are passed over; a release that is described wrongly is left out.

        Raises:
            UpdateRefusedError: the metadata is not signed as it must be, expired, or older than what was seen before.
            ConnectionError: the server does not answer as it should.
            OSError: the metadata cannot be written.
        """
        # What a client that was killed left there is of no use.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        try:
            copy = self._scratch / "metadata"
            if self._metadata.is_dir():
                shutil.copytree(self._metadata, copy)
            else:
                copy.mkdir()
            with _explained("the server's metadata"):
                try:
                    self._updater = Updater(
                        str(copy),
                        f"{self._url}/metadata/",
                        None,
                        f"{self._url}/targets/",
                        self._fetcher,
                        bootstrap=self._root,
                    )
                    self._updater.refresh()
                finally:
                    self._keep(copy)
            with _explained("a release"):
                releases = list(self._releases(copy / "targets.json"))
            yield releases
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def download(self, release: Release, part: str) -> bytes:
        """The verified archive of a part; within a `look`.

        A file that was downloaded whole before is taken from the device.

        Raises:
            UpdateRefusedError, ConnectionError, OSError: as `look`.
        """
        target = self._targets[release.number][part]
        if target.length > LARGEST:
            raise UpdateRefusedError(f"release {release.number}: its {part} has {target.length:,} bytes, too many")
        kept = self._incoming / f"{release.parts[part].archive}.tar"
        content = kept.read_bytes() if kept.is_file() else None
        if content is None or not _fits(target, content):
            make_folder(self._incoming)
            with _explained(f"the {part}"):
                content = Path(self._updater.download_target(target, str(self._scratch / part))).read_bytes()
            if not _fits(target, content):
                raise UpdateRefusedError(f"release {release.number}: its {part} changed after it was verified")
            write_durably(kept, content)
        return content

    def clear(self) -> None:
        """Removes downloads, which have been staged."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    def _releases(self, targets: Path) -> Iterator[Release]:
        # Names alone are taken from the file; what is signed of each is asked of the client.
        names: Metadata[Targets] = Metadata.from_file(str(targets))
        self._targets, self.problems = {}, {}
        for number in release_numbers(names.signed.targets):
            found = {part: self._updater.get_targetinfo(target_name(number, part)) for part in PARTS}
            files = {part: target for part, target in found.items() if target is not None}
            customs = {part: target.custom for part, target in files.items() if target.custom is not None}
            try:
                release = read_release(customs, number)
            except ValueError as error:
                self.problems[number] = str(error)
                continue
            if any(files[part].hashes.get("sha256") != release.parts[part].archive for part in PARTS):
                self.problems[number] = f"release {number}: its description is of other archives"
                continue
            self._targets[number] = files
            yield release

    def _keep(self, copy: Path) -> None:
        """Writes durably what the client verified; each file it has is one that was."""
        for name in _STEADY:
            _keep_file(copy / name, self._metadata / name)
        for root in sorted(copy.glob("root_history/*.root.json")):
            _keep_file(root, self._metadata / "root_history" / root.name)


def _keep_file(new: Path, kept: Path) -> None:
    if not new.is_file():
        return
    content = new.read_bytes()
    if not kept.is_file() or kept.read_bytes() != content:
        make_folder(kept.parent)
        write_durably(kept, content)


def _fits(target: TargetFile, content: bytes) -> bool:
    try:
        target.verify_length_and_hashes(content)
    except exceptions.LengthOrHashMismatchError:
        return False
    return True


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """TUF's errors as ours, with what they mean for a device."""
    try:
        yield
    except exceptions.RepositoryError as error:
        raise UpdateRefusedError(f"{what} is refused: {_meaning(error)} ({error})") from error
    except exceptions.DownloadLengthMismatchError as error:
        raise UpdateRefusedError(f"{what} is refused: it is longer than it may be ({error})") from error
    except exceptions.SlowRetrievalError as error:
        if str(error):
            raise ConnectionError(f"{what} came too slowly and was given up: {error}") from error
        # python-tuf takes a server that cannot be connected to for a slow one.
        reason = getattr(error.__cause__, "reason", error.__cause__)
        raise ConnectionError(f"{what} cannot be fetched: {reason}") from error
    except exceptions.DownloadHTTPError as error:
        raise ConnectionError(f"{what} is not there: the server answers {error.status_code}; check ota.url") from error
    except exceptions.DownloadError as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, "the disk is full") from error
        raise ConnectionError(f"{what} cannot be fetched: {' '.join(str(cause).split())[:300]}") from error


_MEANINGS: dict[type[Exception], str] = {
    exceptions.ExpiredMetadataError: "it is out of date, or this device's clock is wrong",
    exceptions.BadVersionNumberError: "it is older than what was seen before, or of another moment",
    exceptions.UnsignedMetadataError: "it is not signed by the keys that are trusted",
    exceptions.LengthOrHashMismatchError: "it was altered",
}


def _meaning(error: Exception) -> str:
    return next((text for kind, text in _MEANINGS.items() if isinstance(error, kind)), "it is no valid metadata")
