"""Which machine this is and in what state, from /proc and /sys; what cannot be read is None."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from deploy.benchmark.measure import Condition, Machine

ROOT = Path("/")


def read_machine(root: Path = ROOT) -> Machine:
    """Describes this machine; `root` holds its proc and sys folders."""
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Machine(
        device=_device(root),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        processors=os.cpu_count() or 1,
        affinity=affinity,
    )


def read_condition(root: Path = ROOT) -> Condition:
    """The governor, clock (the fastest processor's), temperature (the hottest zone's) and one-minute load of now."""
    cpufreq = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    clocks = [_number(folder / "scaling_cur_freq") for folder in cpufreq]
    zones = [_number(zone) for zone in sorted(root.glob("sys/class/thermal/thermal_zone*/temp"))]
    load = (_text(root / "proc/loadavg") or "").split()
    return Condition(
        governor=_text(cpufreq[0] / "scaling_governor") if cpufreq else None,
        frequency_mhz=max((clock / 1e3 for clock in clocks if clock is not None), default=None),
        temperature_c=max((zone / 1e3 for zone in zones if zone is not None), default=None),
        load=float(load[0]) if load else None,
    )


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
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    named = dict(line.split(":", 1) for line in reversed(cpuinfo.splitlines()) if ":" in line)
    fields = {key.strip(): value.strip() for key, value in named.items()}
    return fields.get("model name") or fields.get("Hardware") or platform.processor() or platform.machine()


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
