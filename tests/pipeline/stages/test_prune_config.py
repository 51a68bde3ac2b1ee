"""Which options of the prune stage go together, and what they amount to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from slimcam.pipeline.stages.config import PruneConfig, SparseConfig
from slimcam.training.fit.config import FitConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "none"}, r"weights is one of kept, random; got 'none'"),
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
