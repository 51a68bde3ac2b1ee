"""A classifier through the whole pipeline in miniature, by configuration alone, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.model import Classifier
from slimcam.training.data.classification.road_signs import CLASSES, draw


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `debug=classifier` leaves, of a network that reads pixels as Keras' own ResNet weights want them."""
    folder = tmp_path_factory.mktemp("home")
    stages = "stages=[train,prune,quantize,convert,benchmark,evaluate,report]"
    options = ["model.pixels=caffe", "convert.credits=[signs rendered by slimcam]"]
    command = [sys.executable, "-m", "slimcam.pipeline.cli", "debug=classifier", *options, stages]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / "runs/fast-classifier"


def test_the_bundle_names_what_a_device_sees_and_reads_pixels_as_in_training(run):
    classifier = Classifier(run / "bundle")
    assert classifier.classes == CLASSES
    assert classifier.interpreter.delegation().complete
    assert classifier.spec == InputSpec(32, 32, (123.68, 116.779, 103.939), 1.0, "bgr")
    wide = np.hstack([np.zeros((64, 40, 3), np.uint8), draw("stop", 1), np.zeros((64, 40, 3), np.uint8)])
    answers = classifier.classify(wide, most=3)
    assert [answer.name for answer in answers] == [answer.name for answer in classifier.classify(draw("stop", 1), 3)]
    assert 1 >= answers[0].probability >= answers[1].probability > 0


def test_the_report_has_accuracies_with_intervals_and_the_confusion_matrix(run):
    report = (run / "report.md").read_text()
    assert "| Top-1 (95 % interval) |" in report
    assert "Top-5 (95 % interval)" in report
    matrix = report[report.index("## Confusion matrix") :]
    assert "| Class | danger | no entry |" in matrix
    counts = [line.split("|")[2:-1] for line in matrix.splitlines() if line.startswith(("| danger |", "| yield |"))]
    assert [sum(map(int, row)) for row in counts] == [8, 8]


def test_what_was_validated_and_evaluated_is_the_classifiers(run):
    stages = json.loads((run / "stages.json").read_text())
    history = (Path(stages["train"]) / "history.jsonl").read_text().splitlines()
    assert 0 <= json.loads(history[-1])["accuracy"] <= 1
    evaluation = json.loads((Path(stages["evaluate"]) / "evaluation.json").read_text())
    assert evaluation["measure"] == "Top-1 accuracy"
    assert evaluation["fidelity"]["mean"] > 0.95
    card = (run / "bundle/MODEL_CARD.md").read_text()
    assert "backbone small_resnet" in card
    assert "\n- signs rendered by slimcam\n" in card


def test_tensorboard_shows_the_trainings_under_the_name_of_the_run(run):
    shown = run / "tensorboard"
    assert sorted(path.name for path in shown.iterdir()) == ["prune", "quantize", "train"]
    assert all(any(path.name.startswith("events.") for path in stage.iterdir()) for stage in shown.iterdir())
