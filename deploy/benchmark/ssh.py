"""Latency on an ARM Linux board that is reached over ssh.

Copied there are a wheel of slimcam's device part and the models; what is there already, or in part, is not copied
again. The board makes a virtual environment once and runs what `host` runs here, in a process that outlives the
connection. A connection that drops is made again and the measurement picked up; one that does not come back leaves
the measurement on the board, where the same command finds it later.

Users, ports and keys come from the user's ssh configuration; nothing is asked for on the terminal.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from slimcam.deploy.benchmark.wheel import NAME, device_wheel, requirements_of
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.inference.bundle import CARD, GOLDEN, MANIFEST, MODEL, is_bundle
from slimcam.deploy.latency import board
from slimcam.deploy.latency.host import HostConfig
from slimcam.deploy.latency.provenance import own_version
from slimcam.deploy.latency.record import Record, parse_records
from slimcam.deploy.latency.request import model_files, thread_counts

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What ssh itself exits with when it cannot connect, or loses the connection.
SSH_FAILED = 255
OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3")
RETRY_SECONDS = 1.0


@dataclass
class SshConfig(HostConfig):
    """Which board, beside how long to measure there.

    Attributes:
        host: `user@address` of the board, or a name of the ssh configuration.
        ssh_config: File to read in place of the user's ssh configuration.
        folder: Folder on the board, below the home folder, for what is copied and set up there.
        python: Python on the board, 3.10 to 3.13.
        system_packages: Whether the virtual environment uses what the board's system has installed (NumPy, OpenCV).
        wheels: Folder of wheels to copy for a board without a network (`pip download --only-binary=:all:
            --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 -d FOLDER .`).
        patience: Seconds to wait for a lost connection to come back.
    """

    host: str = ""
    ssh_config: str | None = None
    folder: str = ".cache/slimcam"
    python: str = "python3"
    system_packages: bool = False
    wheels: str | None = None
    patience: float = 60.0


class _LostError(OSError):
    """The connection could not be made or was lost."""


def measure_over_ssh(models: Mapping[str, Path], config: SshConfig) -> list[Record]:
    """Measures models on the board, interleaved; progress goes to stderr.

    Args:
        models: name to .tflite file or bundle folder.
        config: Options of the board.

    Returns:
        One record for each number of threads and model, as `host.measure` gives on the board.

    Raises:
        FileNotFoundError: there is no such model, or no ssh program.
        ValueError: no board is named, or a bundle is damaged.
        OSError: the board cannot be reached, or the connection was lost for longer than `patience`.
        RuntimeError: the set-up or the measurement failed on the board.
    """
    _check(config)
    model_files(models)
    link = _Link(config)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = device_wheel(Path(scratch))
        job = _Job(link, wheel, models, config)
        job.prepare()
        records = job.collect()
    commit = own_version()[1]
    # The wheel is this checkout's; the board has only its copy.
    return [replace(record, target=f"ssh {config.host}", commit=commit) for record in records]


def _check(config: SshConfig) -> None:
    if not config.host:
        raise ValueError("which board? give target.host=USER@ADDRESS or a name of your ssh configuration")
    if config.host.startswith("-") or any(letter.isspace() for letter in config.host):
        raise ValueError(f"target.host is USER@ADDRESS or a name of your ssh configuration; got {config.host!r}")
    if shutil.which("ssh") is None:
        raise FileNotFoundError("there is no ssh program; install it (Debian, Ubuntu: apt install openssh-client)")
    if config.wheels is not None and not list(Path(config.wheels).glob("*.whl")):
        raise FileNotFoundError(f"target.wheels={config.wheels}: there are no .whl files in it")


class _Link:
    """Commands on the board, each over a connection of its own."""

    def __init__(self, config: SshConfig) -> None:
        self._config = config
        # When the board last answered; None before the first time.
        self._answered: float | None = None
        own = ["-F", config.ssh_config] if config.ssh_config else []
        self._ssh = ["ssh", *own, *(part for option in OPTIONS for part in ("-o", option)), config.host]

    def run(self, command: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> str:
        """What a shell command prints.

        Raises:
            _LostError: the connection could not be made or was lost.
            RuntimeError: the command failed.
        """
        child = subprocess.run([*self._ssh, command], stdin=stdin, capture_output=True)
        self._check(child.returncode, child.stderr)
        return child.stdout.decode(errors="replace")

    def lines(self, command: str, take: Callable[[str], bool]) -> None:
        """Gives `take` each line that a command prints, until it returns true.

        Raises:
            _LostError: the connection ended first.
            RuntimeError: the command failed.
        """
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                [*self._ssh, command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            ) as child,
        ):
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    self._answered = time.monotonic()
                    # A line without its end was cut off with the connection.
                    if line.endswith(b"\n") and take(line.decode(errors="replace")):
                        return
                child.wait()
            finally:
                child.kill()
            errors.seek(0)
            self._check(child.returncode or SSH_FAILED, errors.read())

    def persist(self, step: Callable[[], T]) -> T:
        """Does a step that may be repeated, again and again while the connection is lost, within the patience."""
        lost: float | None = None
        while True:
            try:
                return step()
            except _LostError as error:  # noqa: PERF203
                # What was never reached is not waited for: the address or the key is wrong.
                if self._answered is None:
                    raise
                now = time.monotonic()
                if lost is None or self._answered > lost:
                    logger.info(f"benchmark: {error}; connecting again")
                    lost = now
                if now - lost >= self._config.patience:
                    raise OSError(
                        f"{error} and did not come back within {self._config.patience:.0f} s; a measurement that has "
                        "begun goes on there, and the same command picks it up"
                    ) from error
                time.sleep(RETRY_SECONDS)

    def _check(self, code: int, stderr: bytes) -> None:
        lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
        last = next((line for line in reversed(lines) if not line.startswith("Warning:")), "it printed nothing")
        name = self._config.host
        if code == SSH_FAILED:
            if self._answered is None:
                raise _LostError(
                    f"{name}: ssh cannot connect ({last}); see that `ssh {name} true` works without a question"
                )
            raise _LostError(f"{name}: the connection was lost ({last})")
        self._answered = time.monotonic()
        if code:
            raise RuntimeError(f"{name}: {last}")


class _Job:
    """One measurement on the board, from the copies that it needs to its records."""

    def __init__(self, link: _Link, wheel: Path, models: Mapping[str, Path], config: SshConfig) -> None:
        self._link, self._config = link, config
        self._wheel = wheel.name
        # Local file to the place of its copy below the board's folder.
        self._copies = {wheel: wheel.name}
        for path in sorted(Path(config.wheels).glob("*.whl")) if config.wheels else ():
            self._copies[path] = f"wheels/{path.name}"
        request = {
            "models": {name: self._add_model(path) for name, path in models.items()},
            "config": {
                "threads": thread_counts(config.threads),
                "processors": None if config.processors is None else list(config.processors),
                "warmup": config.warmup,
                "samples": config.samples,
                "seconds": config.seconds,
            },
            "requirements": requirements_of(NAME),
            "system_packages": config.system_packages,
            "offline": config.wheels is not None,
        }
        text = json.dumps(request, sort_keys=True)
        # The same request of the same code is the same job, and so found again after a lost connection.
        self._folder = f"jobs/{hashlib.sha256((text + wheel.name).encode()).hexdigest()[:16]}"
        local = wheel.with_name("request.json")
        local.write_text(text)
        self._copies[local] = f"{self._folder}/request.json"

    def prepare(self) -> None:
        """Copies what the board lacks and starts the measurement."""
        config = self._config
        folders = sorted({str(Path(remote).parent) for remote in self._copies.values()})
        lacking = f"there is no {config.python}; install Python 3.10 to 3.13, or name it with target.python=..."
        command = (
            f"command -v {shlex.quote(config.python)} >/dev/null || {{ echo {shlex.quote(lacking)} >&2; exit 1; }}; "
            f"mkdir -p {shlex.quote(config.folder)} && {self._in_folder(f'mkdir -p {shlex.join(folders)}')}"
        )
        self._link.persist(lambda: self._link.run(command))
        sizes = self._sizes(list(self._copies.values()))
        for local, remote in self._copies.items():
            if sizes[remote] is not None:
                self._link.persist(partial(self._copy, local, remote))
        self._link.persist(lambda: self._link.run(self._board("start")))

    def collect(self) -> list[Record]:
        """Follows the measurement to its end and takes its records off the board."""
        offset, result = 0, {}

        def take(line: str) -> bool:
            nonlocal offset
            try:
                message = json.loads(line)
            except ValueError:
                # A login script that prints is no reason to fail.
                return False
            if "log" in message:
                offset = message["offset"]
                for entry in message["log"].splitlines():
                    if entry.startswith("benchmark: "):
                        logger.info(f"benchmark: {self._config.host}: {entry.removeprefix('benchmark: ')}")
            result.update(message.get("result", {}))
            return "result" in message

        self._link.persist(lambda: self._link.lines(self._board("follow", str(offset)), take))
        self._link.persist(lambda: self._link.run(self._in_folder(f"rm -rf {shlex.quote(self._folder)}")))
        if "error" in result:
            raise RuntimeError(f"{self._config.host}: {result['error']}")
        try:
            return parse_records(json.dumps(result["records"]))
        except (ValueError, KeyError) as error:
            raise RuntimeError(f"{self._config.host}: its answer is no record ({error}); measure again") from error

    def _add_model(self, path: Path) -> str:
        """Notes what has to be copied of a model; gives its place on the board."""
        if not is_bundle(path):
            remote = f"files/{file_sha256(path)[:16]}/{path.name}"
            self._copies[path] = remote
            return remote
        folder = f"files/{file_sha256(path / MANIFEST)[:16]}/{path.resolve().name}"
        for name in (MODEL, GOLDEN, CARD, MANIFEST):
            self._copies[path / name] = f"{folder}/{name}"
        return folder

    def _sizes(self, names: Sequence[str]) -> dict[str, int | None]:
        """How much of each copy is there already, in bytes; None where it is whole."""
        command = self._in_folder(
            f'for f in {shlex.join(names)}; do if [ -f "$f" ]; then echo whole; '
            'elif [ -f "$f.part" ]; then wc -c <"$f.part"; else echo 0; fi; done'
        )
        sizes = self._link.persist(lambda: self._link.run(command)).split()[-len(names) :]
        return {name: None if size == "whole" else int(size) for name, size in zip(names, sizes, strict=True)}

    def _copy(self, local: Path, remote: str) -> None:
        """Copies the rest of a file; what arrived before a connection was lost is kept, a wrong copy is not.

        Raises:
            RuntimeError: the board has no room, or the copy differs from the file twice.
        """
        size, digest = local.stat().st_size, file_sha256(local)
        part, target = shlex.quote(f"{remote}.part"), shlex.quote(remote)
        command = self._in_folder(
            f"cat >>{part} || exit 1; if [ $(wc -c <{part}) -lt {size} ]; then echo short; "
            f"elif [ $(sha256sum <{part} | cut -c1-64) = {digest} ]; then mv {part} {target}; echo whole; "
            f"else rm {part}; echo different; fi"
        )
        for _ in range(2):
            there = self._sizes([remote])[remote]
            if there is None:
                return
            if size - there > 1e6:
                logger.info(f"benchmark: {self._config.host}: copying {local.name}, {(size - there) / 1e6:.0f} MB")
            with local.open("rb") as file:
                # ssh reads from where the file stands.
                os.lseek(file.fileno(), min(there, size), os.SEEK_SET)
                outcome = self._link.run(command, stdin=file).split()[-1:]
            if outcome == ["whole"]:
                return
            if outcome == ["short"]:
                raise _LostError(f"{self._config.host}: the connection was lost while copying {local.name}")
        raise RuntimeError(f"{self._config.host}: the copy of {local.name} came out different twice; look at its disk")

    def _board(self, command: str, *arguments: str) -> str:
        call = [self._config.python, "-c", board.BOOT, self._wheel, command, self._folder, *arguments]
        return self._in_folder(f"exec {shlex.join(call)}")

    def _in_folder(self, command: str) -> str:
        return f"cd {shlex.quote(self._config.folder)} && {command}"
