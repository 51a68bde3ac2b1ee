"""The adb target: Debian's adb against a small adbd of the tests, which runs a program of benchmark_model's kind."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.sysroot import Sysroot
from slimcam.deploy.benchmark.adb import AdbConfig, measure_over_adb
from slimcam.deploy.common.files import cache_folder
from slimcam.deploy.inference.bundle import Bundle
from slimcam.deploy.latency.record import Cluster

HERE = Path(__file__).parent
# Newest last. Looked up here, because the tests' adb has a home of its own.
EMULATED = sorted((cache_folder() / "a53").glob("sysroot-*"), key=lambda folder: folder.stat().st_mtime)

pytestmark = pytest.mark.skipif(shutil.which("adb") is None, reason="needs adb (Debian: adb)")

PROPERTIES = {
    "ro.product.manufacturer": "Xiaomi",
    "ro.product.model": "Redmi Note 4",
    "ro.board.platform": "msm8953",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.build.version.release": "7.0",
}


class Phone:
    """A small adbd that adb knows by its serial."""

    def __init__(self, folder: Path, wrapper: list[str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.serial = f"127.0.0.1:{port}"
        (folder / "build.prop").write_text("".join(f"{name}={value}\n" for name, value in PROPERTIES.items()))
        self.write_state(2016000)
        self._daemon = subprocess.Popen(
            [sys.executable, HERE / "small_adbd.py", str(port), folder, *wrapper], stdout=subprocess.PIPE
        )
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline() == b"ready\n"

    def write_state(self, kilohertz: int) -> None:
        """Eight Cortex-A53: four at 2 GHz after four at 1.4."""
        files = {"proc/loadavg": "0.5 0.4 0.3 1/300 999\n", "sys/class/thermal/thermal_zone0/temp": "41000\n"}
        files["proc/cpuinfo"] = "".join(f"processor\t: {i}\nCPU part\t: 0xd03\n\n" for i in range(8))
        for i in range(8):
            folder = f"sys/devices/system/cpu/cpu{i}/cpufreq"
            highest = 2016000 if i > 3 else 1401600
            files |= {f"{folder}/cpuinfo_max_freq": f"{highest}\n", f"{folder}/scaling_governor": "interactive\n"}
            files[f"{folder}/scaling_cur_freq"] = f"{min(highest, kilohertz)}\n"
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def connect(self) -> None:
        subprocess.run(["adb", "connect", self.serial], check=True, capture_output=True)

    def let(self, **environment: str) -> None:
        """Variables for the programs of the phone."""
        (self.folder / "environment").write_text("".join(f"{name}={value}\n" for name, value in environment.items()))

    def stop(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()


@pytest.fixture(scope="module")
def adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An adb server of the tests' own, with keys of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        subprocess.run(["adb", "start-server"], check=True, capture_output=True)
        yield
        subprocess.run(["adb", "kill-server"], check=True, capture_output=True)


@pytest.fixture
def make_phone(adb_server: None, tmp_path: Path) -> Iterator[Callable[..., Phone]]:
    assert adb_server is None
    phones = []

    def make(name: str = "phone", wrapper: tuple[str, ...] = ()) -> Phone:
        phone = Phone(tmp_path / name, list(wrapper))
        phones.append(phone)
        return phone

    yield make
    for phone in phones:
        subprocess.run(["adb", "disconnect", phone.serial], capture_output=True)
        phone.stop()


@pytest.fixture
def phone(make_phone: Callable[..., Phone]) -> Phone:
    made = make_phone()
    made.connect()
    return made


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "benchmark_model"
    path.write_text(f"#!{sys.executable}\n" + (HERE / "small_benchmark_model.py").read_text())
    return path


@pytest.fixture
def config(tool: Path) -> AdbConfig:
    return AdbConfig(benchmark_model=str(tool), warmup=2, samples=30, seconds=0.0, timeout=120.0)


@pytest.fixture
def model(tmp_path: Path, int8_model: bytes) -> Path:
    path = tmp_path / "it's slim.tflite"
    path.write_bytes(int8_model)
    return path


def test_models_are_measured_on_the_fast_cluster_with_each_number_of_threads(
    phone: Phone, config: AdbConfig, model: Path, make_bundle: Callable[..., Bundle], tool: Path
) -> None:
    bundle = make_bundle()
    records = measure_over_adb({"slim": model, "tiny": bundle.path}, replace(config, threads=[1, 4], profile=True))
    assert [(record.model.name, record.execution.threads) for record in records] == [
        ("slim", 1),
        ("tiny", 1),
        ("slim", 4),
        ("tiny", 4),
    ]
    for record in records:
        assert record.target == f"adb {phone.serial}"
        assert record.samples == 30
        assert record.model.sha256 == bundle.sha256
        machine, execution, times = record.machine, record.execution, record.latency_ms
        assert (machine.device, machine.soc, machine.os) == ("Xiaomi Redmi Note 4", "msm8953", "Android 7.0 arm64-v8a")
        assert machine.clusters == [
            Cluster("Cortex-A53", [4, 5, 6, 7], 2016.0),
            Cluster("Cortex-A53", [0, 1, 2, 3], 1401.6),
        ]
        assert (execution.runtime, execution.affinity) == ("benchmark_model", [4, 5, 6, 7])
        assert execution.runtime_version == hashlib.sha256(tool.read_bytes()).hexdigest()[:12]
        assert (execution.delegate, execution.delegated_operators, execution.operators) == ("XNNPACK", 6, 6)
        assert (record.before.governor, record.before.frequency_mhz) == ("interactive", 2016.0)
        assert record.before.temperature_c == 41.0
        assert times is not None
        assert times.p50 is not None
        assert 0 < times.min <= times.p50 <= times.max
        assert (times.p90, times.p99) == (None, None)
        assert record.start is not None
        assert record.start.model_rss_bytes == round(8.67578 * 2**20)
        assert record.start.peak_rss_bytes == round(13.1797 * 2**20)
        assert record.profile is not None
        assert [(each.kind, each.ms, each.calls) for each in record.profile] == [
            ("Convolution (QC8) IGEMM", 0.407, 1),
            ("Mean (ND, F32)", 0.1, 2),
        ]
    # A warm-up, a profile, each pinned to processors 4 to 7.
    assert set((phone.folder / "masks").read_text().split()) == {"f0"}
    left = [path.name for path in (phone.folder / "data/local/tmp/slimcam").iterdir()]
    assert left == [hashlib.sha256(tool.read_bytes()).hexdigest()[:16]]


@pytest.mark.parametrize(("build", "delegated"), [("middle", 6), ("old", None)])
def test_older_builds_have_no_median(
    phone: Phone, config: AdbConfig, model: Path, build: str, delegated: int | None
) -> None:
    phone.let(FORMAT=build)
    (record,) = measure_over_adb({"slim": model}, replace(config, cluster="slow"))
    assert record.latency_ms is not None
    assert record.latency_ms.p50 is None
    assert record.typical_ms == record.latency_ms.mean > 0
    assert (record.execution.delegate, record.execution.delegated_operators) == ("XNNPACK", delegated)
    assert record.execution.affinity == [0, 1, 2, 3]
    assert record.start is not None
    assert record.start.init_ms > 0
    assert record.start.first_ms > 0


@pytest.mark.skipif(not EMULATED, reason="needs an emulated ARM (slimcam-benchmark target=snapdragon_625 makes one)")
def test_a_phone_that_runs_aarch64_programs(
    make_phone: Callable[..., Phone], config: AdbConfig, model: Path, tmp_path: Path
) -> None:
    arm = Sysroot(EMULATED[-1], "")
    phone = make_phone(wrapper=tuple(arm.command(tmp_path, None, [])))
    phone.connect()
    (record,) = measure_over_adb({"slim": model}, replace(config, samples=3))
    assert (record.samples, record.execution.delegated_operators) == (3, 6)
    output = (phone.folder / "programs").read_text()
    assert "aarch64" in output


def failure(models: dict[str, Path], config: AdbConfig) -> str:
    with pytest.raises((OSError, ValueError, RuntimeError)) as error:
        measure_over_adb(models, config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_phone_a_wrong_one_and_several(make_phone: Callable[..., Phone], config: AdbConfig, model: Path) -> None:
    assert failure({"slim": model}, config).startswith("adb finds no phone; connect one with USB debugging")
    first, second = make_phone("first"), make_phone("second")
    first.connect()
    assert f"only {first.serial}" in failure({"slim": model}, replace(config, serial="other"))
    second.connect()
    line = failure({"slim": model}, config)
    assert line.startswith("adb finds several phones (")
    assert line.endswith("choose one with target.serial=...")
    (record,) = measure_over_adb({"slim": model}, replace(config, serial=second.serial))
    assert record.target == f"adb {second.serial}"


def test_a_phone_that_lets_nobody_in(make_phone: Callable[..., Phone], config: AdbConfig, model: Path) -> None:
    phone = make_phone()
    (phone.folder / "unauthorized").touch()
    subprocess.run(["adb", "connect", phone.serial], capture_output=True)
    assert failure({"slim": model}, config) == (
        f"{phone.serial}: the phone is unauthorized; accept this computer's key on the phone's screen"
    )


def test_a_phone_without_room(phone: Phone, config: AdbConfig, model: Path) -> None:
    (phone.folder / "full").touch()
    assert "No space left on device" in failure({"slim": model}, config)
    assert list((phone.folder / "data/local/tmp/slimcam").iterdir()) == []


def test_a_tool_that_crashes(phone: Phone, config: AdbConfig, model: Path) -> None:
    phone.let(CRASH="11")
    line = failure({"slim": model}, config)
    assert line.startswith(f"{phone.serial}: benchmark_model was ended by signal 11 (segmentation fault); ")


def test_a_tool_that_is_another_program(phone: Phone, config: AdbConfig, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    assert failure({"slim": model}, replace(config, benchmark_model=str(other))) == (
        f"{phone.serial}: the output of benchmark_model is not understood (there are no inference timings in it); "
        "it ends with: hello"
    )


def test_a_phone_that_goes_away(phone: Phone, config: AdbConfig, model: Path) -> None:
    (phone.folder / "gone").touch()
    assert failure({"slim": model}, config).startswith(f"{phone.serial}: ")


def test_a_phone_that_goes_away_while_it_measures(phone: Phone, config: AdbConfig, model: Path) -> None:
    masks = phone.folder / "masks"

    def unplug() -> None:
        end = time.monotonic() + 60
        while not masks.exists() and time.monotonic() < end:
            time.sleep(0.05)
        phone.stop()

    thread = threading.Thread(target=unplug)
    thread.start()
    line = failure({"slim": model}, replace(config, seconds=5.0))
    thread.join()
    assert masks.exists()
    assert line.startswith(f"{phone.serial}: ")
    assert "measure again" in line


def test_a_phone_that_does_not_answer(phone: Phone, config: AdbConfig, model: Path) -> None:
    (phone.folder / "slow").touch()
    assert failure({"slim": model}, replace(config, timeout=2.0)).startswith(f"{phone.serial}: no answer within 2 s")


def test_the_tool_is_checked(config: AdbConfig, model: Path, tmp_path: Path) -> None:
    models = {"slim": model}
    assert failure(models, replace(config, benchmark_model="")).startswith("which benchmark_model? give ")
    assert failure(models, replace(config, benchmark_model=str(tmp_path / "none"))).endswith("no such file")
    assert "its sha256 is" in failure(models, replace(config, sha256="0" * 64))
    assert failure(models, replace(config, benchmark_model="http://x/y")) == "http://x/y: give an https address"
    assert "needs its checksum" in failure(models, replace(config, benchmark_model="https://x/y"))


def test_a_clock_that_falls_is_told(
    phone: Phone, config: AdbConfig, model: Path, tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    lowered = "".join(
        f"echo 1401600 >{phone.folder}/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq\n" for i in range(8)
    )
    hot = tool.with_name("hot")
    hot.write_text(f'#!/bin/sh\n{lowered}exec {tool} "$@"\n')
    tool.chmod(0o755)
    (record,) = measure_over_adb({"slim": model}, replace(config, benchmark_model=str(hot)))
    assert "throttled: the clock fell from 2016 to 1402 MHz" in record.validity


@pytest.mark.parametrize("change", [{"threads": 0}, {"samples": 0}, {"cluster": "big"}, {"threads": [1, 1]}])
def test_impossible_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        AdbConfig(**change)  # type: ignore[arg-type]
