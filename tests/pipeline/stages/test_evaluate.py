"""The evaluate stage on real files of a tiny model: the pairs that gates go by, and people held out beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from slimcam.deploy.inference.bundle import Bundle, InputSpec, load_bundle
from slimcam.deploy.inference.model import Model as FloatModel
from slimcam.deploy.latency.record import (
    Condition,
    Execution,
    Latency,
    Machine,
    MeasuredModel,
    Record,
    Start,
    write_records,
)
from slimcam.pipeline.stages import evaluate
from slimcam.pipeline.stages.artifacts import VARIANTS
from slimcam.pipeline.stages.config import EvaluateConfig, GatesConfig
from slimcam.training.data.recognition import lfw
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.data.recognition.synthetic import draw_face
from slimcam.training.tasks.bootstrap import guessing
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition import task, verification
from slimcam.training.tasks.recognition.evaluation import VerificationResults
from slimcam.training.tasks.task import Curves, Evaluation

PROVENANCE = {
    "backbone": "tiny",
    "initial_weights": "random",
    "teacher": None,
    "taught_stages": [],
    "validated_stages": [],
    "data": "20 images of 6 people (data: lfw)",
    "pruned_share": 0.7,
    "pruned_channels": 100,
    "pruned_scope": "all",
    "pruned_steps": 1,
    "pruned_weights": "kept",
    "epochs": {"dense": 1.0},
    "quantization": {"scheme": "ptq_int8", "numbers": "int8, calibrated", "layers": {"stem": "float"}},
}


@dataclass(frozen=True)
class Evaluated:
    """What the stage wrote."""

    result: dict[str, Any]
    bundle: Bundle

    @property
    def card(self) -> str:
        return self.bundle.card.read_text()


Evaluate = Callable[..., Evaluated]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """LFW's layout with rendered faces: three people to train on, three of the test, four of another folder."""
    names = ["Ann_A", "Bob_B", "Cy_C", "Dee_D", "Eli_E", "Fay_F"]
    for person, name in enumerate(names):
        _draw(tmp_path / f"lfw112/images/{name}", f"{name}_{{:04d}}.png", person)
    for person, name in enumerate(["Gus G", "Hal H", "Ida I", "Jo J"], 6):
        _draw(tmp_path / f"pins112/images/{name}", "{}.png", person)
    (tmp_path / "lfw112/peopleDevTrain.txt").write_text("3\nAnn_A\t4\nBob_B\t4\nCy_C\t4\n")
    genuine = [f"{name}\t{a}\t{b}" for name in names[3:] for a, b in ((1, 2), (1, 3), (2, 4), (3, 4))]
    impostor = [f"{names[3 + i]}\t{k}\t{names[3 + (i + 1) % 3]}\t{k}" for i in range(3) for k in (1, 2, 3, 4)]
    (tmp_path / "lfw112/pairsDevTest.txt").write_text("\n".join(["12", *genuine, *impostor]) + "\n")
    return tmp_path


@pytest.fixture
def run(tmp_path: Path, faces: Path, make_bundle: Callable[..., Bundle]) -> Evaluate:
    def go(held_out: int = 3, **provenance: Any) -> Evaluated:
        inputs = {name: tmp_path / name for name in ("convert", "benchmark")}
        for name in VARIANTS:
            make_bundle(inputs["convert"] / name, provenance=PROVENANCE | provenance, name=name)
        (inputs["convert"] / "fidelity.json").write_text('{"images": 4, "mean": 0.999, "min": 0.99}')
        write_records([_record(name) for name in VARIANTS], inputs["benchmark"] / "benchmark.json")
        data = _data(faces, held_out)
        config = SimpleNamespace(data=data, evaluate=EvaluateConfig([0.2], 1, GatesConfig()))
        out = tmp_path / "out"
        evaluate.run(Job(config, inputs, out, tmp_path / "work", tmp_path / "cache"))
        return Evaluated(json.loads((out / "evaluation.json").read_text()), load_bundle(out / "bundle"))

    return go


def test_people_held_out_are_judged_beside_the_test_and_by_their_own_pairs(run: Evaluate, faces: Path) -> None:
    result = run().result
    data = lfw.load(_data(faces, 3))
    (held_out,) = data.held_out
    first, second, *identified = result["tables"]
    assert [found["title"] for found in identified] == [
        "Identification, the test",
        "Identification, people held out",
    ]
    assert [title for title, _ in identified[1]["columns"]] == ["1 photo enrolled: rank 1", "3 photos enrolled: rank 1"]
    assert "24 verification pairs of 3 people" in first["notes"][0]
    assert f"{len(held_out.pairs)} verification pairs of 3 people, and 48 impostor pairs" in second["notes"][0]
    embeddings = task.embed(faces / "convert/pruned", held_out.faces.images, 1)
    scores = verification.pair_scores(embeddings, held_out.pairs)
    expected = verification.fold_accuracy(scores, held_out.pairs)
    # 12 images of three people: 48 impostor pairs support a rate of 0.2 with fewer than ten, and so have no column.
    assert [title for title, _ in second["columns"]] == [
        "Accuracy",
        "± over folds",
        "Change, points (95 % interval)",
    ]
    for name in VARIANTS:
        accuracy, deviation, change = second["rows"][name]
        assert (accuracy, deviation) == (pytest.approx(expected.mean), pytest.approx(expected.deviation))
        assert (change is None) == (name == "dense")
    assert second["rows"]["pruned"][2]["difference"] == 0


def test_a_change_on_people_held_out_is_against_the_dense_model_on_the_same_pairs(
    run: Evaluate, faces: Path, make_bundle: Callable[..., Bundle], float_model: bytes
) -> None:
    run()
    data = lfw.load(_data(faces, 3))
    (held_out,) = data.held_out
    folders = {"dense": faces / "convert/dense", "other": faces / "convert/other"}
    # The same network on other pixels errs on other pairs.
    spec, images = InputSpec(32, 32, mean=250.0, scale=20.0), np.zeros((1, 32, 32, 3), np.uint8)
    golden = {"golden_input": images, "golden_output": FloatModel(float_model, spec).outputs(images)}
    make_bundle(folders["other"], model=float_model, input=spec, **golden)
    images = held_out.faces.images
    embeddings = {name: task.embed(folder, images, 1) for name, folder in folders.items()}
    found = VerificationResults(embeddings, held_out, [0.5])
    accuracy = {name: found.accuracies[name].mean for name in folders}
    change = found.changes["other"]
    assert change["difference"] != 0
    assert change["difference"] == pytest.approx(accuracy["other"] - accuracy["dense"])
    assert change["low"] <= change["difference"] <= change["high"]
    assert set(found.rates["dense"]["tar"]) == {"0.5"}


def test_the_card_names_the_scheme_and_the_layers_that_are_an_exception_to_it(run: Evaluate) -> None:
    assert "- quantization: ptq_int8 (int8, calibrated); float: stem" in run().card


@pytest.mark.parametrize(("scheme", "gated"), [("ptq_int8", True), ("ptq_int16x8", False)])
def test_delegation_is_a_gate_of_schemes_that_xnnpack_has_kernels_for(run: Evaluate, scheme: str, gated: bool) -> None:
    found = run(quantization={"scheme": scheme, "numbers": "", "layers": {}}).result
    assert any(gate["name"] == "delegated" for gate in found["gates"]) == gated


def test_gates_judge_by_the_test_alone(run: Evaluate) -> None:
    result = run().result
    gate = next(gate for gate in result["gates"] if gate["name"] == "accuracy_loss")
    assert gate["figure"] == pytest.approx(-100 * result["changes"]["quantized"]["difference"])


def test_the_card_has_a_line_of_the_people_held_out_that_says_what_they_were_used_for(run: Evaluate) -> None:
    lines = [line for line in run().card.splitlines() if "held out" in line]
    assert len(lines) == 1
    assert "pairs of 3 people held out of the folders trained on (dense float model" in lines[0]
    chosen = run(validated_stages=["train"]).card
    assert "held out of the folders trained on, by whom weights were chosen in training (dense" in chosen


def test_data_that_hold_nobody_out_are_judged_as_ever(run: Evaluate) -> None:
    found = run(held_out=0)
    assert [table["title"] for table in found.result["tables"]] == ["Verification", "Identification, the test"]
    assert "held out" not in found.card


@pytest.mark.parametrize(
    ("facts", "way"),
    [
        ({}, "(scope all)"),
        ({"pruned_steps": 3}, "(scope all, in 3 steps)"),
        ({"pruned_weights": "random"}, "(scope all; only the shape was taken over, all weights re-initialized)"),
        (
            {"pruned_weights": "lean (sha256 ab)"},
            "(scope all; fine-tuning went on from the weights of lean (sha256 ab); of the dense model ",
        ),
    ],
)
def test_the_card_says_how_was_pruned(run: Evaluate, facts: dict[str, Any], way: str) -> None:
    assert f"70.0% of 100 channels pruned {way}" in run(0, **facts).card


def _data(root: Path, held_out: int) -> LfwConfig:
    return LfwConfig(root=str(root), extra=["pins112/images"], held_out=held_out, held_out_pairs=24)


def _draw(folder: Path, name: str, person: int) -> None:
    folder.mkdir(parents=True)
    for shot in range(1, 5):
        cv2.imwrite(str(folder / name.format(shot)), draw_face(person, shot)[:, :, ::-1])


def _record(name: str) -> Record:
    return Record(
        target="host",
        model=MeasuredModel(name, "0" * 64, 1_000_000),
        execution=Execution("ai-edge-litert", "2.3.0", "XNNPACK", 7, 7, [], 1),
        machine=Machine("a machine", "Linux 6.1.0 x86_64", 2, [0, 1]),
        before=Condition(None, None, None, 1.2),
        after=Condition(None, None, None, 1.4),
        warmup=1,
        samples=10,
        seconds=1.0,
        interleaved=list(VARIANTS),
        latency_ms=Latency(1.0, 0.9, 1.0, 1.1, 1.2, 1.3),
        start=Start(1.0, 2.0, 60_000_000, 61_000_000),
        validity=[],
        version="0.1.0",
        commit=None,
        time_utc="2026-01-01T00:00:00+00:00",
    )


def test_a_dense_model_that_hardly_beats_guessing_is_said_to() -> None:
    def evaluated(accuracy: float, chance: float | None) -> Evaluation:
        curves = Curves("", "", "", "", "", True, 0.1, {})
        return Evaluation({"dense": accuracy, "quantized": accuracy}, {}, {}, {}, [], [], curves, chance)

    (remark,) = evaluate.remarks(evaluated(0.54, guessing(0.5, 120)), "Accuracy")
    assert "The dense model's accuracy, 54.00 %, is hardly better than guessing" in remark
    assert evaluate.remarks(evaluated(0.54, guessing(0.5, 100_000)), "Accuracy")
    assert evaluate.remarks(evaluated(0.97, guessing(0.5, 120)), "Accuracy") == []
    assert evaluate.remarks(evaluated(0.05, None), "Recall") == []
