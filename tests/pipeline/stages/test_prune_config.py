"""Which options of the prune stage go together, and what they amount to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.common.result_key import key_material
from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.stages.config import PruneConfig, SparseConfig
from slimcam.pipeline.steps import stages_of, steps
from slimcam.training.fit.config import FitConfig


def test_a_converted_network_is_known_by_its_content() -> None:
    by_name = PruneConfig(weights="recognizer")
    by_folder = PruneConfig(weights=str(RECOGNIZER))
    assert (
        key_material(by_name)["weights"]
        == key_material(by_folder)["weights"]
        == f"sha256:{file_sha256(RECOGNIZER / 'model.tflite')}"
    )
    assert by_name.beginning == by_folder.beginning
    assert key_material(PruneConfig())["weights"] == PruneConfig().beginning == "kept"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "none"}, "weights is kept, random, a bundle, or a .tflite file .*; 'none' is none of them"),
        ({"weights": "recognizer", "steps": 2}, "weights=recognizer takes nothing over from one cut to the next"),
        ({"weights": "recognizer", "bn_images": 0}, "measures statistics by bn_images training images: set it above 0"),
        ({"weights": "random", "steps": 2}, "takes nothing over from one cut to the next: set steps=1"),
        ({"steps": 0}, "steps must be 1 or more, step_epochs above 0; got 0"),
        ({"step_epochs": 0.0}, "steps must be 1 or more, step_epochs above 0; got 1 and 0"),
        ({"steps": 4, "fit": FitConfig(epochs=3.0)}, r"leave nothing of fit\.epochs=3 for the last one"),
        ({"sparse": SparseConfig("bn_scale", epochs=10.0)}, r"and sparse\.epochs=10 leave nothing of fit\.epochs=10"),
        ({"sparse": SparseConfig("bn_scale"), "weights": "random"}, r"from sparse training: set sparse\.penalty=none"),
        ({"schedule": "cubic"}, "schedule is one of geometric, linear, polynomial; got 'cubic'"),
        ({"plan": "plan.json", "steps": 2}, "a plan names the channels of one cut: set steps=1"),
        ({"criterion_images": 0}, "criterion_images must be 1 or more; got 0"),
        (
            {"method": "magnitude", "budget": "5x"},
            r"budget=5x cannot be had: give the share of weights by",
        ),
        ({"method": "magnitude", "steps": 2, "weights": "kept"}, r"so that steps=2 cannot be had"),
        (
            {"method": "magnitude", "sparse": SparseConfig("bn_scale")},
            r"sparse\.penalty=bn_scale cannot be had",
        ),
    ],
)
def test_steps_and_weights_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PruneConfig(**options)


def test_the_epochs_of_all_fine_tuning_are_those_of_the_fit() -> None:
    config = PruneConfig(steps=3, step_epochs=1.5, fit=FitConfig(epochs=10.0, batch_size=7))
    assert [fit.epochs for fit in config.fine_tuning] == [1.5, 1.5, 7.0]
    assert {replace(fit, epochs=10.0) == config.fit for fit in config.fine_tuning} == {True}


def composed(*overrides: str) -> Any:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        return validate(compose("slimcam", list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("prune.ratio=1.0",), r"^prune: ratio is the share to remove, from 0 to below 1; got 1\.0$"),
        (("prune=magnitude", "prune.ratio=1.0"), r"^prune: ratio is the share to remove, from 0 to below 1; got 1\.0$"),
        (("prune=magnitude", "prune.target=macs"), r"^prune: method=magnitude removes no channels, .* target=macs"),
        (("prune.method=weights",), r"^prune: method is one of channels, magnitude; got 'weights'"),
    ],
)
def test_shares_and_methods_that_make_no_sense_are_refused_before_anything_runs(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        composed(*overrides)
    assert "\n" not in str(error.value)


def test_single_weights_are_pruned_by_a_function_of_their_own_in_tensorflow() -> None:
    config = composed("prune=magnitude")
    (stage,) = (stage for stage in stages_of(config) if stage.name == "prune")
    assert (stage.function, stage.backend) == ("slimcam.pipeline.stages.prune_magnitude:run", "tensorflow")
    assert steps(config)["prune"].key != steps(composed("prune.ratio=0.8"))["prune"].key
