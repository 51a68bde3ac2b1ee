from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from slimcam import conf
from slimcam.deploy.apps import camera, faces, ota
from slimcam.deploy.benchmark import cli as benchmark_cli
from slimcam.pipeline.config import SCHEMAS, Config, register, validate
from slimcam.pipeline.stages.config import PruneConfig
from slimcam.training.data.recognition.packed import PackedConfig
from slimcam.training.tasks.recognition.model import build

CONF = Path(str(conf.__file__)).parent
ALL = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
# The applications of a device have a root of their own; `application` is Hydra's part of each of them.
DEVICE = [name.removeprefix("device/") for name in ALL if name.startswith("device/") and name != "device/application"]
FILES = [name for name in ALL if not name.startswith("device/")]
REQUIRED = {
    "data/folders": ["data.root=x"],
    "data/image_folders": ["data.root=x"],
    "data/insightface": ["data.root=x"],
    "data/lfw": ["data.root=x"],
    "data/lfw_pins": ["data.root=x"],
    "data/own": ["data._target_=x.y"],
    "data/packed": ["data.path=x"],
    "data/public_faces": ["data.root=x"],
    "data/shards": ["data.root=x"],
    "experiment/detector": ["data.root=x"],
    "experiment/lfw": ["data.root=x"],
    "experiment/recognizer": ["data.root=x"],
    "model/file": ["model.path=x"],
    "task/compress": ["model.path=x"],
}
OF_OTHER_TASKS = ("model/classifier", "model/detector", "model/file")


@pytest.fixture
def _pipeline() -> Iterator[None]:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        yield


@pytest.mark.usefixtures("_pipeline")
@pytest.mark.parametrize("name", FILES)
def test_every_file_composes_and_passes_its_schema(name: str) -> None:
    group, _, option = name.rpartition("/")
    assert group or name == "slimcam"
    chosen = [f"{group}={option}"] if group else []
    config = validate(compose("slimcam", overrides=[*chosen, *REQUIRED.get(name, [])]))
    assert isinstance(config, Config)


@pytest.mark.usefixtures("_pipeline")
@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("model/") and name not in OF_OTHER_TASKS])
def test_the_recognizer_of_every_file_can_be_built(name: str) -> None:
    config = validate(compose("slimcam", overrides=[name.replace("/", "="), "model.input_size=32"]))
    assert build(config.model).outputs[0].shape == (None, config.model.embedding_size)


@pytest.mark.parametrize("name", DEVICE)
def test_every_file_of_the_device_composes_and_passes_its_schema(name: str) -> None:
    assert all((benchmark_cli, camera, faces, ota))  # registers the schemas
    group, _, option = name.rpartition("/")
    with initialize_config_module("slimcam.conf.device", version_base=None):
        primaries = [known for known in DEVICE if "/" not in known and (known == name or group in compose(known))]
        assert primaries
        for primary in primaries:
            composed = compose(primary, overrides=[f"{group}={option}"] if group else [])
            assert is_dataclass(OmegaConf.get_type(composed))


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("experiment/")])
def test_every_experiment_starts_with_its_command_time_and_result(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    for line, title in zip(lines[1:4], ("Run:", "Takes:", "Gives:"), strict=True):
        assert line.startswith(f"# {title}")
        assert title == "Run:" or any(character.isdigit() for character in line)
    assert f"experiment={name.split('/')[1]}" in lines[1]


@pytest.mark.usefixtures("_pipeline")
def test_debug_comes_after_the_experiment_and_shrinks_it() -> None:
    config = validate(compose("slimcam", overrides=["experiment=demo", "debug=fast"]))
    assert config.name == "fast"
    assert config.data.identities < 100
    assert config.prune.fit.batch_size == 32


@pytest.mark.usefixtures("_pipeline")
def test_an_experiment_takes_packed_faces_in_place_of_its_own() -> None:
    packed = ["data=packed", "data.path=faces.npz", "train.teacher.path=teacher.onnx"]
    config = validate(compose("slimcam", overrides=["experiment=lfw", *packed]))
    assert config.data == PackedConfig(path="faces.npz")
    assert config.train.teacher.views == 12


@pytest.mark.usefixtures("_pipeline")
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_scheme_that_is_chosen_by_name_keeps_the_loss_of_the_task(task: str) -> None:
    for scheme in ("qat_int8", "ptq_int8"):
        found = validate(compose("slimcam", overrides=[f"task={task}", f"quantize={scheme}"])).quantize
        assert (type(found), found.scheme) == (SCHEMAS[f"quantize/{task}"], scheme)
        assert type(found.loss) is type(SCHEMAS[f"quantize/{task}"]().loss)
    with pytest.raises(ValueError, match=f"^quantize.loss: {task} has other options"):
        validate(compose("slimcam", overrides=[f"task={task}", "quantize=qat_int8", "quantize.loss.margin=0.1"]))


@pytest.mark.usefixtures("_pipeline")
def test_a_dense_model_that_need_not_be_trained_is_not_imitated() -> None:
    def validated(*options: str) -> object:
        return validate(compose("slimcam", overrides=["task=detection", "prune.weights=detector", *options]))

    truth = "prune.loss.distillation_weight=0"
    with pytest.raises(
        ValueError, match=r"and prune and quantize would imitate .*: set prune\.loss\.distillation_weight=0"
    ):
        validated()
    with pytest.raises(ValueError, match="shape, and quantize would imitate"):
        validated(truth)
    assert validated(truth, "quantize.loss.distillation_weight=0")
    assert validated(truth, "quantize.teacher=external")
    assert validated(truth, "quantize=ptq_int8")


@pytest.mark.usefixtures("_pipeline")
def test_weights_are_averaged_of_converted_networks_alone() -> None:
    def validated(weights: str, others: str) -> PruneConfig:
        options = ["prune.teacher=external", "quantize.teacher=external", "train.teacher.path=teacher.onnx"]
        given = [f"prune.weights={weights}", f"prune.averaged_with={others}"]
        return validate(compose("slimcam", overrides=[*given, *options])).prune

    config = validated("recognizer", "[recognizer]")
    assert [file.name for file in config.all_converted] == ["model.tflite"] * 2
    assert config.beginning.count("recognizer (sha256 ") == 2
    with pytest.raises(ValueError, match=r"averaged_with needs another converted network in weights; got weights=kept"):
        validated("kept", "[recognizer]")
    with pytest.raises(ValueError, match=r"averaged_with takes bundles and \.tflite files; 'absent.tflite' is neither"):
        validated("recognizer", "[absent.tflite]")


@pytest.mark.usefixtures("_pipeline")
def test_the_help_lists_every_group_and_option() -> None:
    OmegaConf.register_new_resolver("option_meanings", lambda: "", replace=True)  # the command's own are long
    template = compose("slimcam", return_hydra_config=True).hydra.help.template
    listed = dict(line.split(None, 1) for line in template.splitlines() if line and line.split()[0] in _groups())
    for group, options in _groups().items():
        assert sorted(listed[group].split(", ")) == options


@pytest.mark.usefixtures("_pipeline")
def test_values_are_checked_by_their_schema() -> None:
    composed = compose("slimcam", overrides=["prune.fit.optimizer=adm"])
    with pytest.raises(ValueError, match=r"^prune: optimizer is one of sgd, adamw, muon; got 'adm'$"):
        validate(composed)


@pytest.mark.usefixtures("_pipeline")
def test_a_required_value_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^data.root is required; give it on the command line as data.root=\.\.\.$"):
        validate(compose("slimcam", overrides=["data=folders"]))


@pytest.mark.usefixtures("_pipeline")
def test_a_key_added_to_a_schema_is_refused() -> None:
    composed = compose("slimcam", overrides=["+train.fit.epoch=3"])
    with pytest.raises(ValueError, match=r"train\.fit has no key 'epoch'; did you mean 'epochs'"):
        validate(composed)


def test_reading_the_configuration_imports_no_framework() -> None:
    frameworks = ("keras", "tensorflow", "tf_keras", "jax", "torch")
    code = f"import sys, slimcam.pipeline.cli; print([name for name in {frameworks} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CONF.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


# The file is called after it.
NAMED = {("model/resnet50", "backbone")}


@pytest.mark.parametrize("name", [name for name in FILES if "- /schema/" in (CONF / f"{name}.yaml").read_text()])
def test_defaults_are_stated_in_the_dataclass_alone(name: str) -> None:
    content = OmegaConf.load(CONF / f"{name}.yaml")
    content.pop("hydra", None)
    entries = [str(entry) for entry in content.pop("defaults")]
    schemas = {f"/schema/{path}@_here_": schema for path, schema in SCHEMAS.items()}
    found = [schemas[entry] for entry in entries if entry in schemas]
    if not found:
        pytest.skip("its schema is no dataclass of the pipeline")
    defaults = OmegaConf.structured(found[0])
    again = [
        key
        for key, value in _leaves(OmegaConf.to_container(content))
        if value != "???" and (name, key) not in NAMED and OmegaConf.select(defaults, key) == value
    ]
    assert not again


def _leaves(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        yield path, content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in FILES:
        group, _, option = name.rpartition("/")
        if group:
            groups.setdefault(group, []).append(option)
    return groups
