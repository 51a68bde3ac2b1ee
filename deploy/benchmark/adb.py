"""Latency on an Android phone, by TFLite's own `benchmark_model`, over adb.

The tool is given as a file or as an address with its SHA-256 (builds: https://ai.google.dev/edge/litert/models/measurement).
It runs under `taskset` on one cluster of the phone's processors, once for each model and number of threads, each in a
process of its own, one after the other. It tells a mean, and a median in newer builds, but no p90 and p99.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimcam.deploy.benchmark.benchmark_tool import ToolOutput, parse
from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.files import atomic, cache_folder, file_sha256
from slimcam.deploy.common.messages import last_line
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.latency.machine import read_clusters, read_condition
from slimcam.deploy.latency.provenance import identify, now_utc, own_version
from slimcam.deploy.latency.record import Cluster, Condition, Execution, Latency, Machine, Record, Start
from slimcam.deploy.latency.request import check_sampling, model_files, thread_counts
from slimcam.deploy.latency.statistics import validity_warnings

logger = logging.getLogger(__name__)

FOLDER = "/data/local/tmp/slimcam"
# A standard deviation above this share of the mean says that something else was using the phone.
NOISY_DEVIATION = 0.15
# `adb shell` tells the exit code of a command only since Android 7.
EXIT = "slimcam-exit:"

# What the phone's state is read from.
STATE = (
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "/sys/class/thermal/thermal_zone*/temp",
)
MARK = "slimcam-file:"

# States of a phone that adb is just greeting, and the seconds that a greeting may take.
_PASSING = {"authorizing", "connecting"}
_GREETING = 10.0

SIGNALS = {
    4: "illegal instruction",
    6: "abort",
    7: "bus error",
    9: "killed, perhaps for want of memory",
    11: "segmentation fault",
}


class PhoneCluster(Choice):
    """Which of a phone's processors a measurement runs on."""

    FAST = "fast"
    SLOW = "slow"
    ANY = "any"
    """Android decides."""


@dataclass
class AdbConfig:
    """Which phone, with which tool, for how long.

    Attributes:
        benchmark_model: File or https address of TFLite's benchmark tool.
        sha256: SHA-256 of the tool; required for an address.
        serial: Serial number of the phone, where there are several (see `adb devices`).
        threads: Number of threads, or a list of numbers to measure each.
        cluster: Processors to run on, one of `PhoneCluster`.
        warmup: Least number of inferences before the first sample.
        samples: Least number of timed inferences of each model and number of threads.
        seconds: Seconds of sampling of each model and number of threads.
        profile: Whether to time each operator, in a run of its own after the one that counts.
        timeout: Seconds that one run of the tool may take.
    """

    benchmark_model: str = ""
    sha256: str | None = None
    serial: str | None = None
    threads: Any = 1
    cluster: str = PhoneCluster.FAST.value
    warmup: int = 10
    samples: int = 200
    seconds: float = 10.0
    profile: bool = False
    timeout: float = 600.0

    def __post_init__(self) -> None:
        check_sampling(self.threads, self.samples, self.warmup, self.seconds)
        choose("cluster", PhoneCluster, self.cluster)


def measure_over_adb(models: Mapping[str, Path], config: AdbConfig) -> list[Record]:
    """Measures models on the phone, one after the other; progress goes to stderr.

    Args:
        models: name to .tflite file or bundle folder.
        config: Options of the phone and the tool.

    Returns:
        One record for each number of threads and model, in their order.

    Raises:
        FileNotFoundError: there is no such model or tool, or no adb program.
        ValueError: there are no models, or the tool's checksum does not fit.
        OSError: there is no phone, or not the one that is meant, or the connection to it was lost.
        RuntimeError: the phone has no room, or the tool failed there.
    """
    files = model_files(models)
    operators = {name: Interpreter(file).delegation().total for name, file in files.items()}
    tool = _tool(config)
    phone = _Phone(_choose(config.serial), config.timeout)
    machine = _machine(phone)
    processors = _processors(machine.clusters, config.cluster)
    version, commit = own_version()
    tool_version = file_sha256(tool)[:12]
    identities = {name: identify(name, file) for name, file in files.items()}
    remote_tool = phone.push(tool)
    phone.shell(f"chmod 755 {remote_tool}")
    remote = {}
    records = []
    try:
        for name, file in files.items():
            remote[name] = phone.push(file)
        for threads in thread_counts(config.threads):
            for name in files:
                logger.info(f"benchmark: {phone.serial}: {name}, {threads} {'thread' if threads == 1 else 'threads'}")
                command = _command(remote_tool, remote[name], threads, processors, config)
                before = phone.condition(processors)
                output = phone.benchmark(command, operators[name])
                after = phone.condition(processors)
                profile = None
                if config.profile:
                    # Not in the run that counts: the profiler costs time.
                    profile = phone.benchmark(f"{command} --enable_op_profiling=true", operators[name]).profile
                execution = Execution(
                    runtime="benchmark_model",
                    runtime_version=tool_version,
                    delegate=output.delegate,
                    delegated_operators=output.delegated,
                    operators=operators[name],
                    left_out=[],
                    threads=threads,
                    affinity=processors,
                )
                latency_ms = _latency(output)
                records.append(
                    Record(
                        target=f"adb {phone.serial}",
                        model=identities[name],
                        execution=execution,
                        machine=machine,
                        before=before,
                        after=after,
                        warmup=config.warmup,
                        samples=output.samples,
                        seconds=round(output.samples * output.mean_ms / 1e3, 3),
                        interleaved=[],
                        latency_ms=latency_ms,
                        start=_start(output),
                        validity=[
                            *validity_warnings(output.samples, latency_ms, execution, machine, before, after),
                            *_tool_warnings(output, config),
                        ],
                        version=version,
                        commit=commit,
                        time_utc=now_utc(),
                        profile=profile,
                    )
                )
    finally:
        phone.remove(list(remote.values()))
    return records


class _Phone:
    """One phone that adb reaches."""

    def __init__(self, serial: str, timeout: float) -> None:
        self.serial = serial
        self._timeout = timeout

    def shell(self, command: str) -> str:
        """What a command prints on the phone, stdout and stderr together.

        Raises:
            OSError: the phone is gone, or the command took too long.
            RuntimeError: the command failed.
        """
        code, text = self._shell(command)
        if code:
            raise RuntimeError(f"{self.serial}: {last_line(text, f'exit code {code}')}")
        return text

    def benchmark(self, command: str, operators: int) -> ToolOutput:
        """Runs the tool.

        Raises:
            OSError: the phone is gone, or the tool took too long.
            RuntimeError: the tool failed, or what it printed is not understood.
        """
        code, text = self._shell(command)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else "nothing"
        if "taskset" in last and "not found" in last:
            raise RuntimeError(f"{self.serial}: there is no taskset on the phone; give target.cluster=any")
        if code > 128:
            signal = SIGNALS.get(code - 128, "a crash")
            raise RuntimeError(
                f"{self.serial}: benchmark_model was ended by signal {code - 128} ({signal}); "
                "see that it is built for this phone, and that the model runs on the host"
            )
        if code:
            errors = [line for line in lines if "rror" in line or "ailed" in line]
            raise RuntimeError(f"{self.serial}: benchmark_model failed with {code}: {(errors or [last])[-1]}")
        try:
            return parse(text, operators)
        except ValueError as error:
            raise RuntimeError(
                f"{self.serial}: the output of benchmark_model is not understood ({error}); it ends with: {last}"
            ) from error

    def push(self, file: Path) -> str:
        """Copies a file to the phone, unless it is there; gives its place.

        Raises:
            OSError: the phone is gone.
            RuntimeError: there is no room on it, or the copy differs.
        """
        digest = file_sha256(file)
        # A plain name, whatever the file is called.
        remote = f"{FOLDER}/{digest[:16]}{file.suffix if re.fullmatch(r'[.][a-z]+', file.suffix) else ''}"
        if digest in self._shell(f"sha256sum {remote}")[1]:
            return remote
        self.shell(f"mkdir -p {FOLDER}")
        logger.info(f"benchmark: {self.serial}: copying {file.name}, {file.stat().st_size / 1e6:.1f} MB")
        child = self._adb("push", str(file), f"{remote}.part")
        if child.returncode:
            self.remove([f"{remote}.part"])
            self._gone(child.stdout)
            lines = child.stdout.strip().splitlines() or ["adb push failed"]
            reason = next((line for line in lines if "error: " in line), lines[-1])
            raise RuntimeError(f"{self.serial}: {file.name} could not be copied: {reason.strip()}")
        if digest not in self.shell(f"sha256sum {remote}.part"):
            self.remove([f"{remote}.part"])
            raise RuntimeError(
                f"{self.serial}: the copy of {file.name} came out different; look at the phone's storage"
            )
        self.shell(f"mv {remote}.part {remote}")
        return remote

    def remove(self, files: Sequence[str]) -> None:
        """Removes files; it does not matter whether they, or the phone, are still there."""
        if files:
            self._adb("shell", f"rm -f {shlex.join(files)}")

    def condition(self, processors: Sequence[int] | None) -> Condition:
        with tempfile.TemporaryDirectory() as root:
            self.copy_state(Path(root))
            return read_condition(Path(root), processors)

    def copy_state(self, root: Path) -> None:
        """Copies what the phone's state is read from below `root`, as far as the phone lets it be read."""
        text = self._shell(f'for f in {" ".join(STATE)}; do [ -r "$f" ] && echo "{MARK}$f" && cat "$f"; done')[1]
        for part in text.split(MARK)[1:]:
            name, _, content = part.replace("\r\n", "\n").partition("\n")
            path = root / name.strip().lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def property(self, name: str) -> str:
        """A system property, empty where the phone has none of that name."""
        return self._shell(f"getprop {name}")[1].strip()

    def _shell(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command on the phone."""
        child = self._adb("shell", f"( {command} ) 2>&1; echo {EXIT}$?")
        text, found, code = child.stdout.rpartition(EXIT)
        if not found:
            self._gone(child.stdout)
            raise OSError(f"{self.serial}: the connection to the phone was lost; reconnect it and measure again")
        return int(code.strip()), text

    def _gone(self, said: str) -> None:
        """Says in adb's own words that the phone is gone, where adb says so."""
        for line in said.splitlines():
            if re.match(r"(adb: )?error: (device|closed|no devices|protocol fault|failed to get feature)", line):
                raise OSError(f"{self.serial}: {line.partition('error: ')[2]}; reconnect the phone and measure again")

    def _adb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return _run_adb("-s", self.serial, *arguments, timeout=self._timeout)
        except subprocess.TimeoutExpired as error:
            raise OSError(
                f"{self.serial}: no answer within {self._timeout:.0f} s; see that the phone is awake and connected, or "
                "give a longer target.timeout"
            ) from error


def _run_adb(*arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    if shutil.which("adb") is None:
        raise FileNotFoundError("there is no adb program; install it (Debian, Ubuntu: apt install adb)")
    return subprocess.run(
        ["adb", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
    )


def _choose(serial: str | None) -> str:
    """The phone to use, ready to be used.

    Raises:
        OSError: there is none, not the one that is meant, several, or it is not ready.
    """
    states = _settled_states()
    if serial is None:
        if not states:
            raise OSError(
                "adb finds no phone; connect one with USB debugging switched on, or run `adb connect ADDRESS`"
            )
        if len(states) > 1:
            raise OSError(f"adb finds several phones ({', '.join(states)}); choose one with target.serial=...")
        serial = next(iter(states))
    if serial not in states:
        raise OSError(f"adb finds no phone {serial}, only {', '.join(states) or 'none at all'}; see `adb devices`")
    state = states[serial]
    advice = {
        "unauthorized": "accept this computer's key on the phone's screen",
        "offline": "unplug the phone and plug it in again, or run `adb reconnect`",
        "no permissions": "let your user use it (Debian: apt install android-sdk-platform-tools-common, group plugdev)",
    }
    if state != "device":
        raise OSError(f"{serial}: the phone is {state}; {advice.get(state, 'see `adb devices`')}")
    return serial


def _settled_states() -> dict[str, str]:
    """State by serial, once adb has greeted the phones that it is just connecting to."""
    end = time.monotonic() + _GREETING
    while True:
        states = _devices(_run_adb("devices", timeout=60).stdout)
        if not _PASSING & set(states.values()) or time.monotonic() > end:
            return states
        time.sleep(0.2)


def _devices(text: str) -> dict[str, str]:
    """State by serial, of what `adb devices` prints."""
    states = {}
    for line in text.splitlines():
        serial, tab, state = line.partition("\t")
        if tab and not line.startswith("*"):
            states[serial.strip()] = "no permissions" if state.startswith("no permissions") else state.strip()
    return states


def _tool(config: AdbConfig) -> Path:
    """The tool's file on this machine, downloaded where it is named by its address.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no tool is named, or its checksum is missing or differs.
        OSError: it cannot be downloaded.
    """
    named, expected = config.benchmark_model, config.sha256
    if not named:
        raise ValueError(
            "which benchmark_model? give target.benchmark_model=FILE, or its https address and target.sha256=..."
        )
    if named.startswith("http://"):
        raise ValueError(f"{named}: give an https address")
    if named.startswith("https://"):
        if expected is None:
            raise ValueError(f"{named}: a download needs its checksum; give target.sha256=...")
        path = cache_folder() / "benchmark_model" / expected
        if not path.is_file():
            _download(named, path)
    else:
        path = Path(named)
        if not path.is_file():
            raise FileNotFoundError(f"target.benchmark_model={named}: there is no such file")
    found = file_sha256(path)
    if expected is not None and found != expected.lower():
        if named.startswith("https://"):
            path.unlink()
        raise ValueError(f"{named}: its sha256 is {found}, expected is {expected}; look at where it comes from")
    return path


def _download(address: str, path: Path) -> None:
    logger.info(f"benchmark: downloading {address}")
    try:
        with (
            urllib.request.urlopen(address, timeout=60) as answer,
            atomic(path) as partial,
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise OSError(f"{address}: cannot be downloaded ({error}); download it by hand and give its path") from error


def _machine(phone: _Phone) -> Machine:
    properties = {
        name: phone.property(f"ro.{name}")
        for name in (
            "product.manufacturer",
            "product.model",
            "soc.model",
            "board.platform",
            "product.cpu.abi",
            "build.version.release",
        )
    }
    with tempfile.TemporaryDirectory() as root:
        phone.copy_state(Path(root))
        clusters = read_clusters(Path(root))
    maker, model = properties["product.manufacturer"], properties["product.model"]
    return Machine(
        device=(model if model.lower().startswith(maker.lower()) else f"{maker} {model}").strip() or phone.serial,
        os=f"Android {properties['build.version.release']} {properties['product.cpu.abi']}",
        processors=sum(len(cluster.processors) for cluster in clusters) or 1,
        affinity=None,
        soc=properties["soc.model"] or properties["board.platform"] or None,
        clusters=clusters,
    )


def _processors(clusters: Sequence[Cluster], wanted: str) -> list[int] | None:
    """Those of the fastest or the slowest cluster; None where the choice is Android's."""
    if wanted == PhoneCluster.ANY or not clusters:
        return None
    return list(clusters[0 if wanted == PhoneCluster.FAST else -1].processors)


def _command(tool: str, model: str, threads: int, processors: Sequence[int] | None, config: AdbConfig) -> str:
    flags = {
        "graph": model,
        "num_threads": threads,
        "warmup_runs": config.warmup,
        "num_runs": config.samples,
        "min_secs": config.seconds,
        # The tool stops there, with fewer runs if need be, and says so by their number.
        "max_secs": config.timeout / 2,
        "use_xnnpack": "true",
        "report_peak_memory_footprint": "true",
    }
    # toybox wants the mask in hexadecimal without 0x.
    pinned = f"taskset {sum(1 << processor for processor in processors):x} " if processors else ""
    return f"{pinned}{tool} " + " ".join(f"--{name}={value}" for name, value in flags.items())


def _latency(output: ToolOutput) -> Latency:
    return Latency(
        mean=round(output.mean_ms, 4),
        min=round(output.min_ms, 4),
        p50=None if output.median_ms is None else round(output.median_ms, 4),
        p90=None,
        p99=None,
        max=round(output.max_ms, 4),
    )


def _start(output: ToolOutput) -> Start:
    return Start(
        init_ms=round(output.init_ms, 4),
        first_ms=round(output.first_ms, 4),
        peak_rss_bytes=None if output.peak_rss_mb is None else round(output.peak_rss_mb * 2**20),
        model_rss_bytes=None if output.model_rss_mb is None else round(output.model_rss_mb * 2**20),
    )


def _tool_warnings(output: ToolOutput, config: AdbConfig) -> list[str]:
    """Validity warnings from the tool's own figures."""
    found = []
    if output.samples < config.samples:
        found.append(f"{output.samples} samples of {config.samples} that were asked for; give a longer target.timeout")
    if output.deviation_ms > NOISY_DEVIATION * output.mean_ms:
        share = 100 * output.deviation_ms / output.mean_ms
        found.append(f"noisy: the standard deviation is {share:.0f} % of the mean; stop what else uses the phone")
    return found
