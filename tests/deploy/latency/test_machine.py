from __future__ import annotations

from pathlib import Path

from slimcam.deploy.latency.machine import (
    git_commit,
    parse_processors,
    pinning_order,
    read_clusters,
    read_condition,
    read_machine,
)
from slimcam.deploy.latency.record import Cluster


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_board_names_itself_in_its_device_tree(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 3 Model B\0")
    write(tmp_path / "proc/cpuinfo", "model name\t: ARMv7\n")
    assert read_machine(tmp_path).device == "Raspberry Pi 3 Model B"


def test_a_pc_is_named_after_its_processor(tmp_path: Path) -> None:
    write(
        tmp_path / "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: Fast: CPU\n\nprocessor\t: 1\nmodel name\t: Fast: CPU\n",
    )
    assert read_machine(tmp_path).device == "Fast: CPU"


def test_an_old_kernel_names_the_soc(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nHardware\t: Qualcomm Technologies, Inc MSM8953\n")
    assert read_machine(tmp_path).device == "Qualcomm Technologies, Inc MSM8953"


def test_the_condition_is_the_fastest_clock_and_the_hottest_zone(tmp_path: Path) -> None:
    for cpu, clock in enumerate((1_400_000, 2_016_000)):
        write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{clock}\n")
        write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor", "schedutil\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "41000\n")
    write(tmp_path / "sys/class/thermal/thermal_zone1/temp", "55500\n")
    write(tmp_path / "sys/class/thermal/thermal_zone2/temp", "\n")
    write(tmp_path / "proc/loadavg", "0.25 0.10 0.05 1/99 123\n")
    condition = read_condition(tmp_path)
    assert (condition.governor, condition.frequency_mhz) == ("schedutil", 2016.0)
    assert (condition.temperature_c, condition.load) == (55.5, 0.25)


def test_what_a_machine_does_not_tell_is_none(tmp_path: Path) -> None:
    condition = read_condition(tmp_path)
    assert (condition.governor, condition.frequency_mhz, condition.temperature_c, condition.load) == (None,) * 4
    assert read_machine(tmp_path).device
    assert git_commit(tmp_path) is None


def big_little(root: Path) -> None:
    """Four Cortex-A53 at 1.4 GHz before four Cortex-A73 at 2.2 GHz."""
    parts = ["0xd03"] * 4 + ["0xd09"] * 4
    write(root / "proc/cpuinfo", "".join(f"processor\t: {i}\nCPU part\t: {part}\n\n" for i, part in enumerate(parts)))
    for i in range(8):
        clock = 2_208_000 if i > 3 else 1_401_600
        write(root / f"sys/devices/system/cpu/cpu{i}/cpufreq/cpuinfo_max_freq", f"{clock}\n")
        write(root / f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq", f"{clock // 2}\n")
        write(root / f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor", f"g{i}\n")


def test_clusters_are_told_apart_and_the_fastest_comes_first(tmp_path: Path) -> None:
    big_little(tmp_path)
    assert read_clusters(tmp_path) == [
        Cluster("Cortex-A73", [4, 5, 6, 7], 2208.0),
        Cluster("Cortex-A53", [0, 1, 2, 3], 1401.6),
    ]


def test_the_condition_is_that_of_the_processors_in_use(tmp_path: Path) -> None:
    big_little(tmp_path)
    condition = read_condition(tmp_path, [1, 2])
    assert (condition.governor, condition.frequency_mhz) == ("g1", 700.8)


def test_fast_processors_are_used_first_and_second_threads_of_a_core_last(tmp_path: Path) -> None:
    big_little(tmp_path)
    assert pinning_order(range(8), tmp_path)[:5] == [4, 5, 6, 7, 0]
    for i in range(4):
        pair = f"{i % 2},{i % 2 + 2}\n"
        write(tmp_path / f"smt/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list", pair)
    assert pinning_order([0, 1, 2, 3], tmp_path / "smt") == [0, 1, 2, 3]
    assert pinning_order([0, 2, 1], tmp_path / "smt") == [0, 1, 2]
    assert pinning_order([3, 1], tmp_path / "nothing") == [1, 3]


def test_lists_of_processors() -> None:
    assert parse_processors("0-3,8") == [0, 1, 2, 3, 8]
    assert parse_processors("x") == []


def test_a_board_names_its_chip_in_its_device_tree(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/compatible", "raspberrypi,3-model-b\0brcm,bcm2837\0")
    assert read_machine(tmp_path).soc == "brcm,bcm2837"
    write(tmp_path / "sys/devices/soc0/machine", "MSM8953\n")
    assert read_machine(tmp_path).soc == "MSM8953"
