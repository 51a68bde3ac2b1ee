from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53 import sysroot


def test_a_program_finds_cortex_a53_cores(tmp_path: Path) -> None:
    sysroot.describe_processor(tmp_path, cores=4)
    cpuinfo = (tmp_path / "proc/cpuinfo").read_text()
    assert cpuinfo.count("CPU part\t: 0xd03") == cpuinfo.count("processor\t:") == 4
    assert (tmp_path / "sys/devices/system/cpu/present").read_text() == "0-3\n"
    assert (tmp_path / "sys/devices/system/cpu/cpu3/cpufreq/cpuinfo_max_freq").read_text() == "2016000\n"


def test_wheels_are_pinned_by_version_and_checksum() -> None:
    lines = [line for line in sysroot.WHEELS.read_text().splitlines() if not line.startswith("#")]
    assert [line.split("==")[0] for line in lines] == ["ai-edge-litert", "numpy", "opencv-python-headless"]
    assert all("--hash=sha256:" in line for line in lines)


def test_an_emulated_device_in_the_cache_is_used_as_it_is(tmp_path: Path) -> None:
    made = tmp_path / "a53" / f"sysroot-{sysroot._digest()}"
    made.mkdir(parents=True)
    assert sysroot.make_sysroot(tmp_path).folder == made


def test_a_system_that_cannot_make_one_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysroot.platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="need Linux on x86-64, this is Linux riscv64"):
        sysroot.make_sysroot(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(sysroot.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="need apt-get"):
        sysroot.make_sysroot(tmp_path)
    assert not (tmp_path / "a53").exists()
