"""No package imports a higher one, and what runs on a device knows no training framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("deploy", "training", "compression", "pipeline")
MAY_IMPORT = {
    "deploy": {"deploy"},
    "training": {"training", "deploy"},
    "compression": {"compression", "training", "deploy"},
    "pipeline": set(OURS),
}
FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "jax", "torch")
# What the base installation brings.
DEVICE_LIBRARIES = {
    *("numpy", "cv2", "ai_edge_litert", "tflite_runtime", "hydra", "omegaconf", "yaml"),
    *("aiohttp", "cryptography", "paho", "prometheus_client"),
    # Of a Raspberry Pi's own system, where its camera is.
    "picamera2",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or ""


@pytest.mark.parametrize("package", OURS)
def test_no_package_imports_a_higher_one(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if (top := name.split(".")[0]) in OURS and top not in MAY_IMPORT[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_deploy_imports_only_what_a_device_has() -> None:
    allowed = DEVICE_LIBRARIES | {"deploy", "conf"} | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("deploy")
        for line, name in imported(path)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_all_of_deploy_loads_no_framework() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules("deploy")
    ]
    code = (
        f"import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print([name for name in {FRAMEWORKS + OURS[1:]!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_camera_loads_nothing_of_the_benchmark() -> None:
    code = (
        "import sys, deploy.apps.camera; print([name for name in sys.modules if name.startswith('deploy.benchmark')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
