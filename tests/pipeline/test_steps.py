"""Keys of results: those of earlier versions, where nothing changes the results."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from slimcam.pipeline.config import register, validate
from slimcam.pipeline.steps import Step, steps

KEYS = {
    ("demo", "train"): "465e408e7a41032a",
    ("demo", "prune"): "74a69f003dec6ade",
    ("demo", "quantize"): "35db7485a38c7b6d",
    ("demo", "report"): "4a0c1f80e2d5d74d",
    ("detector", "train"): "04d956aa2ceaa527",
    ("detector", "prune"): "4cbd81b771f8ec84",
    ("detector", "quantize"): "d9e8f73309ea186d",
    ("detector", "report"): "213bcd5509e1a75a",
    ("shapes", "train"): "13a084285fcfbe47",
    ("shapes", "prune"): "184e6cb7d03f1bb2",
    ("shapes", "quantize"): "d7a8221e89d4eab0",
    ("shapes", "report"): "cc14e1b1e6f67b4f",
}
"""Keys of experiments of earlier versions. Who changes what a stage makes raises its version, and then these."""


def steps_of(*overrides: str) -> dict[str, Step]:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        return steps(validate(compose("slimcam", [*overrides])))


@pytest.mark.parametrize("experiment", ["demo", "detector", "shapes"])
def test_results_of_earlier_versions_are_found_again(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Rendered faces stand for those of a folder: the points of these need no labeler.
    found = steps_of(f"experiment={experiment}", *(["data.labeler=null"] if experiment == "detector" else []))
    assert {stage: found[stage].key for name, stage in KEYS if name == experiment} == {
        stage: key for (name, stage), key in KEYS.items() if name == experiment
    }


def test_a_file_with_the_name_of_a_value_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {name: step.key for name, step in steps_of("experiment=shapes").items()}
    for name in ("kept", "ResNet50", "imagenet", "rgb", "l2"):
        Path(name).write_text("a file")
    assert {name: step.key for name, step in steps_of("experiment=shapes").items()} == before


def test_a_renamed_option_is_in_keys_by_its_former_name() -> None:
    """The key with `augment.occlusion=0.3` of a version that had this name."""
    assert steps_of("experiment=demo", "train.augment.erase=0.3")["train"].key == "c560f83935cb96c1"


def test_a_backbone_by_its_earlier_name_is_the_same_backbone() -> None:
    names = ("small_resnet", "training.backbones:small_resnet")
    new, old = (steps_of("experiment=demo", f"model.backbone='{name}'")["train"].key for name in names)
    assert new == old
