"""Who may import whom: packages, the rooms of `deploy`, and what runs on a device knows no training framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from slimcam.training.tasks.task import TASKS

ROOT = Path(__file__).parent.parent
OURS = ("deploy", "training", "compression", "pipeline")
MAY_IMPORT = {
    "deploy": {"deploy"},
    "training": {"training", "deploy"},
    "compression": {"compression", "deploy"},
    "pipeline": set(OURS),
}
"""Training and compression are siblings: a model goes from one to the other through the pipeline."""

BELOW = {
    "types": set[str](),
    "common": set[str](),
    "inference": {"common"},
    "vision": {"types", "common", "inference"},
    "gallery": {"types", "common", "inference", "vision"},
    "latency": {"common", "inference"},
    "ota": {"types", "common", "inference", "vision", "gallery"},
    "camera": {"types", "common", "inference", "vision", "gallery", "latency", "ota"},
    "apps": {"types", "common", "inference", "vision", "gallery", "latency", "ota", "camera"},
    "benchmark": {"types", "common", "inference", "vision", "gallery", "latency", "camera", "apps"},
}
"""The rooms of `deploy`, and those that each may import beside itself. Nobody imports the benchmark."""

TRAINING = {
    "fit": set[str](),
    "data": {"fit"},
    "tasks": {"fit", "data"},
    "tools": {"fit", "data", "tasks"},
}
"""The rooms of `training`, and those that each may import beside itself; data report their progress as fits do."""

OPEN_TO = {
    "compression": {"common", "inference"},
    # A detector is trained on targets in its own output's form, and scenes are composed by the points of faces.
    "training": {"common", "inference", "vision"},
}
"""The rooms of `deploy` that other packages may import; the pipeline may all."""

BENCHMARK_BY_NAME = {
    ("deploy/apps/camera.py", "slimcam.deploy.benchmark.emulated_camera_cli"),
    ("deploy/common/entry.py", "slimcam.deploy.benchmark.cli"),
}
"""Who names a module of the benchmark without importing it: `slimcam-camera target=` hands over to the emulator, and
the console scripts begin in one module."""

FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "jax", "torch")
# What the base installation brings.
DEVICE_LIBRARIES = {
    *("numpy", "cv2", "ai_edge_litert", "tflite_runtime", "hydra", "omegaconf", "yaml"),
    *("aiohttp", "cryptography", "paho", "prometheus_client"),
    # Of a Raspberry Pi's own system, where its camera is.
    "picamera2",
}

# What updates bring, and nobody else has.
OTA_LIBRARIES = {"tuf", "securesystemslib"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(["slimcam", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


@cache
def every_module() -> frozenset[str]:
    return frozenset(name_of(path) for package in OURS for path in modules(package))


def imported(path: Path, types_too: bool = True) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, those inside functions included.

    Args:
        types_too: also what is imported for the type checker alone.
    """
    tree = ast.parse(path.read_text())
    guarded = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    left_out = set() if types_too else {id(inner) for node in guarded for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in every_module() else node.module or ""


def room_of(name: str, package: str = "deploy") -> str | None:
    """The room of a package that a module lies in; `None` for the package itself and for other packages."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["slimcam", package] and len(parts) > 2 else None


def task_of(name: str) -> str | None:
    """The task that a module belongs to, a folder of `training/tasks`; `None` for what no task owns."""
    folder, _, rest = name.removeprefix("slimcam.training.tasks.").partition(".")
    owned = name.startswith("slimcam.training.tasks.") and (rest or name_is_package(name))
    return folder if owned else None


def name_is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir()


@pytest.mark.parametrize("package", OURS)
def test_no_package_imports_a_higher_one(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if name.startswith("slimcam.") and (top := name.split(".")[1]) in OURS and top not in MAY_IMPORT[package]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", OPEN_TO)
def test_what_is_made_for_cameras_alone_is_theirs(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if (room := room_of(name)) is not None and room not in OPEN_TO[package]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("package", "below"), [("deploy", BELOW), ("training", TRAINING)])
def test_no_room_imports_a_higher_one(package: str, below: dict[str, set[str]]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imported(path)
        if (own := room_of(name_of(path), package)) is not None
        and (room := room_of(name, package)) is not None
        and room not in {own, *below[own]}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("package", "below"), [("deploy", BELOW), ("training", TRAINING)])
def test_nothing_lies_outside_the_rooms(package: str, below: dict[str, set[str]]) -> None:
    outside = {str(path.relative_to(ROOT)) for path in modules(package) if room_of(name_of(path), package) not in below}
    assert outside == {f"{package}/__init__.py"}


def test_a_task_is_a_folder_that_imports_no_other_task() -> None:
    folders = {path.name for path in (ROOT / "training/tasks").iterdir() if (path / "__init__.py").is_file()}
    assert {module.split(":")[0] for module in TASKS.values()} == {
        f"slimcam.training.tasks.{name}.task" for name in folders
    }
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("training/tasks")
        for line, name in imported(path)
        # What all tasks share knows none of them; the name of a task's class stands in `TASKS`.
        if (task := task_of(name)) is not None and task != task_of(name_of(path))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_benchmark_is_named_by_nobody_else() -> None:
    named = {
        (str(path.relative_to(ROOT)), node.value)
        for path in modules("deploy")
        if room_of(name_of(path)) != "benchmark"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("slimcam.deploy.benchmark")
        and " " not in node.value
    }
    assert named == BENCHMARK_BY_NAME
    assert {name for _, name in named} <= every_module()


def test_imports_go_round_in_no_circle() -> None:
    # A package is loaded before its modules, but what it imports of them is no circle.
    graph = {
        name_of(path): {name for _, name in imported(path, types_too=False) if name in every_module()}
        for package in OURS
        for path in modules(package)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_deploy_imports_only_what_a_device_has() -> None:
    allowed = DEVICE_LIBRARIES | {"slimcam"} | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("deploy")
        for line, name in imported(path)
        if name.split(".")[0] not in allowed | (OTA_LIBRARIES if room_of(name_of(path)) in ("ota", "apps") else set())
    ]
    assert not wrong, "\n".join(wrong)


def loaded(code: str, names: str) -> str:
    """What a fresh Python has loaded after some code, of the modules for which an expression on `name` holds."""
    code = f"import importlib, sys\n{code}\nprint([name for name in sys.modules if {names}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_all_of_deploy_loads_no_framework() -> None:
    names = [name_of(path) for path in modules("deploy")]
    code = f"for name in {names!r}: importlib.import_module(name)"
    others = FRAMEWORKS + tuple(f"slimcam.{package}" for package in OURS[1:])
    assert loaded(code, f"name in {others!r}") == "[]"


def test_a_camera_loads_nothing_of_the_benchmark() -> None:
    assert loaded("import slimcam.deploy.apps.camera", "name.startswith('slimcam.deploy.benchmark')") == "[]"


def test_a_camera_that_is_updated_loads_nothing_of_tuf_into_its_own_process() -> None:
    code = "import slimcam.deploy.apps.camera, slimcam.deploy.camera.updates"
    assert loaded(code, f"name.split('.')[0] in {OTA_LIBRARIES!r}") == "[]"


def test_publisher_and_device_of_updates_do_not_import_each_other() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for one, other in (("publisher", "device"), ("device", "publisher"))
        for path in modules(f"deploy/ota/{one}")
        for line, name in imported(path)
        if name.startswith(f"slimcam.deploy.ota.{other}")
    ]
    assert not wrong, "\n".join(wrong)
