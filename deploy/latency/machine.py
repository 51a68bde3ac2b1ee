"""Which machine this is and in what state, from /proc and /sys; what cannot be read is None."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from slimcam.deploy.latency.record import Cluster, Condition, Machine

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"

# "CPU part" of ARM's own cores (implementer 0x41), https://github.com/util-linux/util-linux lscpu-arm.c.
ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2",
    "0xd4d": "Cortex-A715",
    "0xd4e": "Cortex-X3",
}


def read_machine(root: Path = ROOT) -> Machine:
    """Describes this machine; `root` holds its proc and sys folders."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Machine(
        device=_device(root),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        processors=os.cpu_count() or 1,
        affinity=affinity,
        soc=_soc(root),
        clusters=read_clusters(root),
    )


def read_condition(root: Path = ROOT, processors: Collection[int] | None = None) -> Condition:
    """The governor, fastest clock, hottest zone's temperature and one-minute load of now.

    Args:
        root: Folder that holds the proc and sys folders.
        processors: Processors whose governor and clock are read; all of them if `None`.
    """
    cpufreq = [
        folder / "cpufreq"
        for number, folder in _cpu_folders(root).items()
        if (folder / "cpufreq").is_dir() and (processors is None or number in processors)
    ]
    clocks = [_number(folder / "scaling_cur_freq") for folder in cpufreq]
    zones = [_number(zone) for zone in sorted(root.glob("sys/class/thermal/thermal_zone*/temp"))]
    load = (_text(root / "proc/loadavg") or "").split()
    return Condition(
        governor=_text(cpufreq[0] / "scaling_governor") if cpufreq else None,
        frequency_mhz=max((clock / 1e3 for clock in clocks if clock is not None), default=None),
        temperature_c=max((zone / 1e3 for zone in zones if zone is not None), default=None),
        load=float(load[0]) if load else None,
    )


def read_clusters(root: Path = ROOT) -> list[Cluster]:
    """The processors by kind (core and highest clock), the fastest first."""
    cores = arm_cores(_text(root / "proc/cpuinfo") or "")
    kinds: dict[tuple[str | None, float | None], list[int]] = {}
    for number, folder in _cpu_folders(root).items():
        highest = _number(folder / "cpufreq/cpuinfo_max_freq")
        kind = (cores.get(number), None if highest is None else highest / 1e3)
        kinds.setdefault(kind, []).append(number)
    return sort_clusters([Cluster(core, processors, clock) for (core, clock), processors in kinds.items()])


def sort_clusters(clusters: list[Cluster]) -> list[Cluster]:
    """The fastest first: by clock, and, among equals, the later processors, which is where SoCs put the big ones."""
    return sorted(clusters, key=lambda cluster: (-(cluster.max_mhz or 0), -max(cluster.processors)))


def arm_cores(cpuinfo: str) -> dict[int, str]:
    """The core of each processor that /proc/cpuinfo names by an ARM part number."""
    cores, processor = {}, 0
    for line in cpuinfo.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            processor = int(value)
        elif key == "CPU part":
            cores[processor] = ARM_CORES.get(value, f"ARM part {value}")
    return cores


def pinning_order(usable: Collection[int], root: Path = ROOT) -> list[int]:
    """The processors to use first: one of each core before its second hardware thread, fast cores before slow ones."""
    folders = _cpu_folders(root)

    def rank(number: int) -> tuple[int, float, int]:
        folder = folders.get(number)
        if folder is None:
            return 0, 0.0, number
        siblings = parse_processors(_text(folder / "topology/thread_siblings_list") or "") or [number]
        place = siblings.index(number) if number in siblings else 0
        return place, -(_number(folder / "cpufreq/cpuinfo_max_freq") or 0.0), number

    return sorted(usable, key=rank)


def parse_processors(text: str) -> list[int]:
    """`0-3,8` as `[0, 1, 2, 3, 8]`; what is not such a list is empty."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            return []
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout that `folder` is the root of, marked `-dirty` where files differ from it."""
    if not (folder / ".git").exists():
        return None
    try:
        describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
        git = subprocess.run(["git", "-C", str(folder), *describe], capture_output=True, text=True)
    except OSError:
        return None
    return git.stdout.strip() or None


def _device(root: Path) -> str:
    """A board says what it is in its device tree, a PC names its processor, an old ARM kernel its SoC."""
    board = _text(root / "proc/device-tree/model")
    if board:
        return board.rstrip("\0")
    fields = _cpuinfo(root)
    return fields.get("model name") or fields.get("Hardware") or platform.processor() or platform.machine()


def _soc(root: Path) -> str | None:
    """The chip: what /sys/devices/soc0 says, the last entry of the device tree's "compatible", an old "Hardware"."""
    compatible = [entry for entry in (_text(root / "proc/device-tree/compatible") or "").split("\0") if entry]
    return (
        _text(root / "sys/devices/soc0/machine")
        or (compatible[-1] if compatible else None)
        or _cpuinfo(root).get("Hardware")
    )


def _cpuinfo(root: Path) -> Mapping[str, str]:
    """The first value of each field of /proc/cpuinfo."""
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    named = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    return {key.strip(): value.strip() for key, value in named.items()}


def _cpu_folders(root: Path) -> dict[int, Path]:
    folders = {int(folder.name[3:]): folder for folder in root.glob(f"{CPUS}/cpu[0-9]*") if folder.name[3:].isdigit()}
    return dict(sorted(folders.items()))


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        # A thermal zone that is switched off answers a read with an error.
        return None
