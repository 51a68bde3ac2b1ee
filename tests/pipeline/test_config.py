from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import conf
from deploy.benchmark import cli as benchmark_cli
from pipeline.config import Config, register, validate

CONF = Path(str(conf.__file__)).parent
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
# Which application a group belongs to, where it is not the pipeline.
PRIMARY = {"target": "slimcam_benchmark"}
REQUIRED = {"data/folders": ["data.root=x"], "data/lfw": ["data.root=x"], "experiment/lfw": ["data.root=x"]}


@pytest.fixture(autouse=True)
def _hydra() -> object:
    register()
    with initialize_config_module("conf", version_base=None):
        yield


@pytest.mark.parametrize("name", FILES)
def test_every_file_composes_and_passes_its_schema(name: str) -> None:
    group, _, option = name.rpartition("/")
    if not group:
        composed = compose(name)
    else:
        composed = compose(PRIMARY.get(group, "slimcam"), overrides=[f"{group}={option}", *REQUIRED.get(name, [])])
    if "train" in composed:
        assert isinstance(validate(composed), Config)
    else:
        assert OmegaConf.get_type(composed) is benchmark_cli.BenchmarkConfig


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("experiment/")])
def test_every_experiment_starts_with_its_command_time_and_result(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    for line, title in zip(lines[1:4], ("Run:", "Takes:", "Gives:"), strict=True):
        assert line.startswith(f"# {title}")
        assert len(line.split()) > 2
    assert f"experiment={name.split('/')[1]}" in lines[1]


def test_debug_comes_after_the_experiment_and_shrinks_it() -> None:
    config = validate(compose("slimcam", overrides=["experiment=demo", "debug=fast"]))
    assert config.name == "fast"
    assert config.data.identities < 100
    assert config.prune.fit.batch_size == 32


def test_the_help_lists_every_group_and_option() -> None:
    template = compose("slimcam", return_hydra_config=True).hydra.help.template
    listed = dict(line.split(None, 1) for line in template.splitlines() if line and line.split()[0] in _groups())
    for group, options in _groups().items():
        assert sorted(listed[group].split(", ")) == options


def test_values_are_checked_by_their_schema() -> None:
    composed = compose("slimcam", overrides=["prune.fit.optimizer=adm"])
    with pytest.raises(ValueError, match=r"^prune: optimizer is one of sgd, adamw; got 'adm'$"):
        validate(composed)


def test_a_required_value_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^data.root is required; give it on the command line as data.root=\.\.\.$"):
        validate(compose("slimcam", overrides=["data=folders"]))


def test_a_key_added_to_a_schema_is_refused() -> None:
    composed = compose("slimcam", overrides=["+train.fit.epoch=3"])
    with pytest.raises(ValueError, match=r"train\.fit has no key 'epoch'; did you mean 'epochs'"):
        validate(composed)


def test_reading_the_configuration_imports_no_framework() -> None:
    frameworks = ("keras", "tensorflow", "tf_keras", "jax", "torch")
    code = f"import sys, pipeline.cli; print([name for name in {frameworks} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in FILES:
        group, _, option = name.rpartition("/")
        if group and group not in PRIMARY:
            groups.setdefault(group, []).append(option)
    return groups
