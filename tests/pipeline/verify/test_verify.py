"""`slimcam-verify` from its words to its files, on rendered people and tiny models."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.inference.bundle import RECOGNIZER
from slimcam.deploy.inference.model import BundledModel
from slimcam.deploy.inference.pixels import PixelFormat, input_spec
from slimcam.deploy.inference.preprocessing import resized
from slimcam.pipeline.verify import cli
from slimcam.pipeline.verify.candidates import open_candidate
from slimcam.training.data.recognition import verification_pack
from slimcam.training.data.recognition.synthetic import draw_face

PEOPLE, PHOTOS = 12, 4


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """A folder of people, a list of pairs of them, and a pack of these pairs."""
    root = tmp_path_factory.mktemp("faces")
    encoded, same, lines = [], [], []
    for person in range(PEOPLE):
        folder = root / "images" / f"person{person:02d}"
        folder.mkdir(parents=True)
        for photo in range(PHOTOS):
            face = cv2.resize(draw_face(person, photo), (112, 112))
            cv2.imwrite(str(folder / f"{folder.name}_{photo + 1:04d}.png"), face[..., ::-1])
    for first in range(PEOPLE):
        name, other = f"person{first:02d}", f"person{(first + 1) % PEOPLE:02d}"
        lines += [f"{name}\t1\t2", f"{name}\t3\t{other}\t4"]
        for folder, number in ((name, 1), (name, 2), (name, 3), (other, 4)):
            encoded.append((root / "images" / folder / f"{folder}_{number:04d}.png").read_bytes())
        same += [True, False]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    verification_pack.write(root / "pack.bin", encoded, np.array(same))
    return root


class Counted:
    """Images of which it is known how many were asked for."""

    asked = 0

    def __len__(self):
        return 32 * 200

    def __getitem__(self, index):
        self.asked += 1
        return np.zeros((112, 112, 3), np.uint8)


class SlowRunner:
    """A model that takes longer than the reading of its images."""

    height = width = 112

    def __init__(self, images):
        self.images, self.done, self.most_waiting = images, 0, 0

    def outputs(self, faces):
        time.sleep(0.005)
        self.done += len(faces)
        self.most_waiting = max(self.most_waiting, self.images.asked - self.done)
        return [np.ones((len(faces), 2), np.float32)]


def verify(monkeypatch, *words: object) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(sys, "argv", ["slimcam-verify", *map(str, words)])
    cli.main()


def test_models_are_compared_on_lists_packs_and_folders_in_one_run(
    faces, make_bundle, float_model, tmp_path, monkeypatch, capsys
):
    (tmp_path / "float.tflite").write_bytes(float_model)
    (tmp_path / "sex.csv").write_text("person,sex\n" + "".join(f"person{n:02d},{'fm'[n % 2]}\n" for n in range(PEOPLE)))
    sets = [word for name in ("pairs.txt", "images") for word in ("--faces", faces / name)]
    options = ["--pairs", 200, "--far", 0.1, 0.01, "--samples", 2, "--seconds", 0, "--out", tmp_path / "out"]
    models = [make_bundle().path, tmp_path / "float.tflite,mean=128"]
    verify(monkeypatch, *models, *sets, "--attributes", tmp_path / "sex.csv", *options)
    shown = capsys.readouterr().out
    assert "pairs: 24 pairs of 48 images of 12 people; impostors are all 1,056 pairs" in shown
    found = json.loads((tmp_path / "out/verify.json").read_text())
    assert list(found["models"]) == ["bundle", "float"]
    assert found["models"]["float"]["macs"] == found["models"]["bundle"]["macs"] > 0
    assert found["models"]["float"]["latency_ms"]["p50"] > 0
    assert list(found["sets"]) == ["pairs", "images"]
    one = found["sets"]["images"]
    # The int8 file is the float one, quantized: nearly the same decisions.
    assert abs(one["changes"]["float"]["difference"]) < 0.1
    card = one["models"]["bundle"]
    assert card["rates"]["0.1"]["low"] <= card["rates"]["0.1"]["tar"] <= card["rates"]["0.1"]["high"]
    assert [trial["photos"] for trial in card["identified"]] == [1, 3]
    assert [group["value"] for group in card["groups"]] == ["f", "m"]
    assert sum(card["genuine_histogram"]) == pytest.approx(1)
    assert "| bundle |" in (tmp_path / "out/verify.md").read_text()
    assert cv2.imread(str(tmp_path / "out/verify.png")) is not None


def test_a_pack_and_a_list_of_the_same_pairs_give_the_same_accuracy(faces, make_bundle, tmp_path, monkeypatch):
    sets = [word for name in ("pairs.txt", "pack.bin") for word in ("--faces", faces / name)]
    verify(monkeypatch, make_bundle().path, *sets, "--samples", 0, "--out", tmp_path / "out")
    pairs, pack = json.loads((tmp_path / "out/verify.json").read_text())["sets"].values()
    assert pack["models"]["bundle"]["impostors"] == PEOPLE
    assert pack["models"]["bundle"]["identified"] == []
    assert pairs["models"]["bundle"]["accuracy"]["mean"] == pytest.approx(
        pack["models"]["bundle"]["accuracy"]["mean"], abs=0.15
    )


def test_the_people_that_stage_evaluate_judges_by_are_a_set(make_bundle, tmp_path, monkeypatch, capsys):
    verify(
        monkeypatch,
        make_bundle().path,
        *("--samples", 0, "--data", "data=synthetic", "data.identities=12", "data.images_per_identity=4"),
        *("data.test_identities=6", "data.test_images_per_identity=4", "data.test_pairs=40", f"paths.cache={tmp_path}"),
    )
    assert "test: 40 pairs of 24 images of 6 people" in capsys.readouterr().out


def test_the_recognizer_that_comes_with_slimcam_goes_by_its_name():
    candidate = open_candidate("recognizer")
    assert candidate.name == "recognizer"
    assert candidate.file == RECOGNIZER / "model.tflite"


@pytest.mark.parametrize("pixels", list(PixelFormat))
def test_a_bundle_is_fed_as_it_says(pixels, make_bundle):
    bundle = make_bundle(input=input_spec(pixels, 32, 32))
    faces = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    found = open_candidate(str(bundle.path)).embed(faces)
    small = np.stack([resized(face, 32, 32) for face in faces])
    np.testing.assert_allclose(found, BundledModel(bundle.path, check=False).outputs(small), atol=1e-6)


def test_images_are_read_as_they_are_needed(float_model, tmp_path):
    """A set may be larger than the memory."""
    (tmp_path / "m.tflite").write_bytes(float_model)
    candidate, images = open_candidate(f"{tmp_path}/m.tflite"), Counted()
    slow = replace(candidate, runner=SlowRunner(images))
    assert slow.embed_all(images).shape == (len(images), 2)
    assert slow.runner.most_waiting < len(images) / 4


def test_a_model_sees_the_part_of_the_face_and_the_colors_that_are_asked_for(float_model, tmp_path):
    (tmp_path / "m.tflite").write_bytes(float_model)
    face = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    plain = open_candidate(f"{tmp_path}/m.tflite,mean=128")
    turned = open_candidate(f"{tmp_path}/m.tflite,mean=128,color=bgr,name=turned")
    assert turned.name == "turned"
    np.testing.assert_allclose(turned.embed(face[..., ::-1]), plain.embed(face), atol=1e-6)
    cut = open_candidate(f"{tmp_path}/m.tflite,mean=128,crop=40:40:32:32")
    np.testing.assert_allclose(
        cut.embed(face), cut.embed(np.pad(face[:, 40:72, 40:72], [(0, 0), (40, 40), (40, 40), (0, 0)]))
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nobody.onnx", "--faces", "x"], "no file nobody.onnx"),
        (["m.tflite,mena=1", "--faces", "x"], "m.tflite,mena=1: no option 'mena'; did you mean 'mean'?"),
        (["m.tflite,mean=x", "--faces", "x"], "m.tflite,mean=x: mean is a number"),
        (["m.tflite"], "on which faces? give --faces a list of pairs, a .bin or a folder of people, or --data"),
        (
            ["m.tflite", "m.tflite", "--faces", "x"],
            "two models are named m: give them other names, as in FILE,name=other",
        ),
        (["m.tflite", "--faces", "pairs.txt"], "data: no file pairs.txt"),
        (["text.onnx", "--faces", "x"], "text.onnx cannot be run: "),
    ],
)
def test_mistakes_are_one_line(words, line, float_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(float_model)
    Path("text.onnx").write_text("no model")
    with pytest.raises(SystemExit, match="1"):
        verify(monkeypatch, *words)
    (said,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert said.startswith(f"slimcam-verify: {line}")
