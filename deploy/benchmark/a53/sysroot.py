"""Everything that the emulated ARM needs, in a cache and without root rights: qemu, an aarch64 Python, the aarch64
wheels of what a device installs, and the profiler.

Debian's packages come through a private apt (own lists, own status, Debian's signatures checked); the wheels are pinned
by version and checksum in `wheels.txt`. The wheels decide which kernels run, Debian's packages do not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slimcam.deploy.benchmark.a53.elf import Functions, read_functions
from slimcam.deploy.common.files import cache_folder

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
RELEASE = "bookworm"
# Its qemu-user is the last one of Debian that is linked dynamically, which plugins need.
MIRRORS = (
    "http://deb.debian.org/debian {release} main",
    "http://deb.debian.org/debian-security {release}-security main",
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
EMULATOR_PACKAGES = ("qemu-user",)
DEVICE_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1", "libatomic1")
WHEELS = HERE / "wheels.txt"
WHEEL_PLATFORMS = [f"manylinux{glibc}_aarch64" for glibc in ("_2_28", "_2_27", "_2_17", "2014")]
PROFILER = HERE / "profiler.c"
LIBRARY = Path("ai_edge_litert/libpywrap_litert_common.so")
CORES, MIN_KHZ, MAX_KHZ = 8, 652800, 2016000


@dataclass(frozen=True)
class Sysroot:
    """An emulated device in a folder.

    Attributes:
        folder: Folder of the emulated device in the cache.
        digest: Digest of all that may change what is counted.
    """

    folder: Path
    digest: str

    @property
    def device(self) -> Path:
        return self.folder / "device"

    @property
    def packages(self) -> Path:
        return self.device / "opt" / "slimcam"

    @property
    def profiler(self) -> Path:
        return self.folder / "profiler.so"

    def functions(self) -> Functions:
        """The functions of the TFLite library."""
        return read_functions(self.packages / LIBRARY)

    def command(self, python_path: Path, plugin_arguments: str | None, arguments: Sequence[str]) -> list[str]:
        """The command line that runs the device's Python under emulation.

        Args:
            python_path: Folder with slimcam's packages.
            plugin_arguments: Arguments of the profiler; `None` runs without it.
            arguments: Arguments of Python.
        """
        emulator = self.folder / "emulator"
        libraries = [emulator / part / "x86_64-linux-gnu" for part in ("lib", "usr/lib")]
        variables = {
            "PYTHONHOME": self.device / "usr",
            "PYTHONPATH": f"{python_path}:{self.packages}",
            # Python compiles its sources once, which takes long under emulation.
            "PYTHONPYCACHEPREFIX": self.folder / "bytecode",
            "PYTHONHASHSEED": 0,
            "OPENBLAS_NUM_THREADS": 1,
            "TF_CPP_MIN_LOG_LEVEL": 2,
        }
        plugin = [] if plugin_arguments is None else ["-plugin", f"{self.profiler},{plugin_arguments}"]
        return [
            # The emulator's own loader and libraries: those of this machine may be older or newer.
            str(emulator / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
            "--library-path",
            ":".join(map(str, libraries)),
            str(emulator / "usr/bin/qemu-aarch64"),
            *("-cpu", "cortex-a53", "-L", str(self.device)),
            *plugin,
            *(part for name, value in variables.items() for part in ("-E", f"{name}={value}")),
            str(self.device / "usr/bin/python3.11"),
            *arguments,
        ]


def make_sysroot(cache: Path | None = None) -> Sysroot:
    """Makes the emulated device, or finds it in the cache; about 2 minutes and 450 MB the first time.

    Args:
        cache: folder for it; `cache_folder()` if None.

    Raises:
        OSError: this system cannot make one, or a download failed; the message says what is missing.
    """
    digest = _digest()
    folder = (cache or cache_folder()).resolve() / "a53" / f"sysroot-{digest}"
    sysroot = Sysroot(folder, digest)
    if folder.is_dir():
        return sysroot
    check_system()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        logger.info(f"a53: making an emulated Cortex-A53 in {folder}, once")
        logger.info("a53: qemu (1 of 4)")
        _unpack_packages("amd64", EMULATOR_PACKAGES, partial / "emulator")
        logger.info("a53: an aarch64 Python (2 of 4)")
        _unpack_packages("arm64", DEVICE_PACKAGES, partial / "device")
        logger.info("a53: aarch64 wheels (3 of 4)")
        _unpack_wheels(partial / "device" / "opt" / "slimcam")
        logger.info("a53: the profiler (4 of 4)")
        describe_processor(partial / "device")
        _run("gcc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(partial / "profiler.so"), str(PROFILER))
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sysroot


def check_system() -> None:
    """Raises:
    OSError: the emulated device cannot be made here.
    """
    advice = "use Debian or Ubuntu on x86-64, or the container of docs/a53.md"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise OSError(
            f"the emulated targets need Linux on x86-64, this is {platform.system()} {platform.machine()}; {advice}"
        )
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("gcc", "gcc and libc6-dev")):
        if shutil.which(tool) is None:
            raise OSError(f"the emulated targets need {tool}: install {package}, or {advice}")
    if not KEYRING.is_file():
        raise OSError(f"the emulated targets need Debian's keys: install debian-archive-keyring, or {advice}")
    if importlib.util.find_spec("pip") is None:
        raise OSError("the emulated targets download wheels with pip, which this Python lacks: python -m ensurepip")


def describe_processor(root: Path, cores: int = CORES) -> None:
    """Writes the files of /proc and /sys by which a program finds that it runs on Cortex-A53 cores.

    qemu's user-mode emulation shows the host's otherwise, and XNNPACK chooses its kernels by them.
    """
    processors = root / "sys/devices/system/cpu"
    files = {root / "proc/cpuinfo": "".join(_CPUINFO.format(number=number) for number in range(cores))}
    for name in ("possible", "present", "online"):
        files[processors / name] = f"0-{cores - 1}\n"
    files[processors / "kernel_max"] = f"{cores - 1}\n"
    for number in range(cores):
        folder = processors / f"cpu{number}"
        files[folder / "topology/physical_package_id"] = "0\n"
        files[folder / "topology/core_siblings_list"] = f"0-{cores - 1}\n"
        files[folder / "topology/thread_siblings_list"] = f"{number}\n"
        files[folder / "cpufreq/cpuinfo_min_freq"] = f"{MIN_KHZ}\n"
        files[folder / "cpufreq/cpuinfo_max_freq"] = f"{MAX_KHZ}\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


_CPUINFO = """processor\t: {number}
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""


def _digest() -> str:
    recipe = [RELEASE, *EMULATOR_PACKAGES, *DEVICE_PACKAGES, WHEELS.read_text(), PROFILER.read_text(), _CPUINFO]
    return hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]


def _unpack_packages(architecture: str, packages: Sequence[str], target: Path) -> None:
    """Downloads Debian packages with all they depend on, whatever is installed here, and unpacks them."""
    with tempfile.TemporaryDirectory(prefix="slimcam-apt-") as scratch:
        root = Path(scratch)
        for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        sources = [f"deb [signed-by={KEYRING}] {mirror.format(release=RELEASE)}\n" for mirror in MIRRORS]
        (root / "sources.list").write_text("".join(sources))
        configuration = root / "apt.conf"
        configuration.write_text(_APT.format(root=root, architecture=architecture))
        environment = {**os.environ, "APT_CONFIG": str(configuration)}
        _run("apt-get", "-q", "update", environment=environment)
        _run("apt-get", "-q", "-y", "--download-only", "install", *packages, environment=environment)
        target.mkdir(parents=True)
        for package in sorted((root / "cache/archives").glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(target))


_APT = """Dir "{root}";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc "{root}/etc";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
"""


def _unpack_wheels(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="slimcam-wheels-") as scratch:
        _run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--python-version=3.11", "--require-hashes"),
            *(f"--platform={name}" for name in WHEEL_PLATFORMS),
            *("-d", scratch, "-r", str(WHEELS)),
        )
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("e:", "error", "fatal")) or " error" in line]
        why = (errors or lines or ["it printed nothing"])[0].strip()
        raise OSError(
            f"{Path(command[0]).name} {' '.join(command[1:4])} ... failed while an emulated device was made: {why}"
        )
