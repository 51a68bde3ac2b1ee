from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from slimcam.deploy.benchmark.wheel import device_wheel, requirements_of


def test_the_wheel_has_the_device_part_alone(tmp_path: Path) -> None:
    names = zipfile.ZipFile(device_wheel(tmp_path)).namelist()
    packages = {"/".join(name.split("/")[:2]) for name in names if ".dist-info" not in name}
    assert packages == {"slimcam/__init__.py", "slimcam/deploy", "slimcam/conf"}
    assert "slimcam/deploy/latency/host.py" in names
    assert "slimcam/conf/device/target/host.yaml" in names
    assert not [name for name in names if name.endswith((".tflite", ".npz", ".pyc"))]


def test_the_same_code_makes_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = device_wheel(tmp_path), device_wheel(tmp_path / "a")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_pip_installs_it_and_it_runs(tmp_path: Path) -> None:
    wheel, site = device_wheel(tmp_path), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import slimcam.deploy.latency.host, importlib.metadata as m; print(slimcam.__file__, m.version('slimcam'))"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert ran.stdout.split() == [str(site / "slimcam/__init__.py"), wheel.name.split("-")[1]], ran.stderr


def test_requirements_of_extras_stay_out() -> None:
    names = " ".join(requirements_of("slimcam"))
    assert "numpy" in names
    assert "tensorflow" not in names
