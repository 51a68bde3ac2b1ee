from __future__ import annotations

from pathlib import Path

from deploy.benchmark.machine import git_commit, read_condition, read_machine


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
