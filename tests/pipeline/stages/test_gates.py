"""Gates: what passes, what fails, and what the line says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from slimcam.pipeline.stages.config import GatesConfig
from slimcam.pipeline.stages.gates import Figures, check
from slimcam.training.tasks.bootstrap import Interval

GOOD = Figures(96.0, Interval(-0.004, -0.011, 0.003), 2.5, 8.0, 12.0, 1.0, 0.998)
ALL = GatesConfig(2.0, 2.8, 3.49, 50.0, 1.0, 0.99, 95.0)


def test_a_good_model_passes_every_gate():
    assert [gate.passed for gate in check(GOOD, ALL)] == [True] * 7


@pytest.mark.parametrize(
    ("name", "worse", "line"),
    [
        (
            "accuracy_loss",
            {"accuracy_change": Interval(-0.031, -0.04, -0.02)},
            r"3\.1, wanted at most 2 points .*-3\.10",
        ),
        ("accuracy", {"accuracy": 93.5}, r"93\.5, wanted at least 95 percent"),
        ("size_mb", {"size_mb": 3.1}, r"3\.1, wanted at most 2\.8 MB"),
        ("latency_ratio", {"latency_ratio": 3.2}, r"3\.2, wanted at least 3\.49 times"),
        ("memory_mb", {"memory_mb": 51.0}, r"51, wanted at most 50 MB"),
        ("delegated", {"delegated": 0.98}, r"0\.98, wanted at least 1 of the operators"),
        ("fidelity", {"fidelity": 0.95}, r"0\.95, wanted at least 0\.99 mean cosine"),
    ],
)
def test_a_failed_gate_names_itself_the_figure_and_the_bound(name, worse, line):
    failed = [gate for gate in check(replace(GOOD, **worse), ALL) if not gate.passed]
    assert [gate.name for gate in failed] == [name]
    assert re.search(line, failed[0].text)


def test_gates_set_to_null_are_left_out():
    assert check(GOOD, GatesConfig(None, None, None, None, None, None, None)) == ()


@pytest.mark.parametrize("name", ["memory_mb", "delegated"])
def test_a_gate_on_what_the_target_does_not_tell_is_refused(name):
    unknown = replace(GOOD, **{name: None})
    with pytest.raises(ValueError, match=rf"evaluate\.gates\.{name}: this target does not tell .*; set it to null"):
        check(unknown, ALL)
    assert len(check(unknown, replace(ALL, **{name: None}))) == 6
