from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from slimcam.deploy.benchmark.cli import BenchmarkConfig, name_models
from slimcam.deploy.latency.record import read_records

ROOT = Path(__file__).resolve().parents[3]
TARGETS = ROOT / "conf/device/target"
QUICK = ("target.samples=5", "target.seconds=0")


def benchmark(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slimcam.deploy.benchmark.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path: Path, int8_model: bytes, float_model: bytes) -> Path:
    (tmp_path / "slim.tflite").write_bytes(int8_model)
    (tmp_path / "dense.tflite").write_bytes(float_model)
    return tmp_path


def test_models_are_compared_and_recorded_and_nothing_else_is_written(folder: Path) -> None:
    result = benchmark(folder, "model=[dense.tflite,slim.tflite]", "output=out/b.json", *QUICK)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("host: ")
    assert [line.split()[0] for line in lines[1:4]] == ["model", "dense", "slim"]
    assert [record.model.name for record in read_records(folder / "out/b.json")] == ["dense", "slim"]
    assert sorted(path.name for path in folder.iterdir()) == ["dense.tflite", "out", "slim.tflite"]


def test_a_model_that_comes_with_slimcam_is_measured_by_its_name(tmp_path: Path) -> None:
    result = benchmark(tmp_path, "model=recognizer", *QUICK)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[2].split()[0] == "recognizer"


def test_a_sweep_measures_each_of_its_settings(folder: Path) -> None:
    result = benchmark(folder, "-m", "model=slim.tflite", "target.samples=1,2", "target.seconds=0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("host: ") == 2


@pytest.mark.parametrize("path", sorted(TARGETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_target_composes_and_passes_its_schema(path: Path) -> None:
    with initialize_config_module("slimcam.conf.device", version_base=None):
        composed = compose("slimcam_benchmark", overrides=[f"target={path.stem}", "model=a"])
    assert isinstance(OmegaConf.to_object(composed), BenchmarkConfig)


def test_numbers_of_threads_are_compared_in_one_run(folder: Path) -> None:
    result = benchmark(folder, "model=slim.tflite", "target.threads=[1,2]", *QUICK)
    assert result.returncode == 0, result.stderr
    assert [line.split()[:2] for line in result.stdout.splitlines()[2:4]] == [["slim", "1"], ["slim", "2"]]


def test_help_shows_how_to_call_it_and_what_can_be_set(tmp_path: Path) -> None:
    result = benchmark(tmp_path, "--help")
    assert "slimcam-benchmark model=FILE.tflite" in result.stdout
    assert "samples: 200" in result.stdout
    names = ", ".join(sorted(path.stem for path in TARGETS.glob("*.yaml")))
    assert f"target: {names}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "slimcam-benchmark: which model? give model=FILE.tflite, model=BUNDLE_FOLDER or model=[A,B]"),
        (
            ("model=gone.tflite",),
            "slimcam-benchmark: gone.tflite: there is no such .tflite file or bundle; those that come with slimcam are "
            "recognizer and detector",
        ),
        (
            ("model=a", "target.sampels=3"),
            "slimcam-benchmark: override 'target.sampels=3': target has no key 'sampels'; did you mean 'samples'?",
        ),
        (
            ("model=a", "target.threads=x"),
            "slimcam-benchmark: threads is a number or a list of different ones, as in [1,2,4]; got 'x'",
        ),
        (
            ("model=a", "target.samples=x"),
            "slimcam-benchmark: override 'target.samples=x': target.samples is an integer; got 'x'",
        ),
        (
            ("model=a", "target=ssh"),
            "slimcam-benchmark: which board? give target.host=USER@ADDRESS or a name of your ssh configuration",
        ),
        (("model=a", "target=hots"), "slimcam-benchmark: target=hots: target has no 'hots'; did you mean 'host'?"),
        (("model=[a,a]",), "slimcam-benchmark: a model is named twice; name each once"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    result = benchmark(tmp_path, *arguments)
    assert (result.returncode, result.stderr, result.stdout) == (1, line + "\n", "")


def test_models_are_named_after_their_files_unless_two_would_have_one_name() -> None:
    assert name_models([Path("a/x.tflite"), Path("b")]) == {"x": Path("a/x.tflite"), "b": Path("b")}
    assert list(name_models([Path("a/model.tflite"), Path("b/model.tflite")])) == ["a/model.tflite", "b/model.tflite"]
