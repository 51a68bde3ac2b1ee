"""Faces in one file: the same faces, the same batches, the same fingerprint; and the pack stage around them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from slimcam.pipeline.stages import pack
from slimcam.training.data.images import Selection
from slimcam.training.data.recognition import packed
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import FaceData, FaceSet, Pairs, Verification
from slimcam.training.data.recognition.folders import FileImages, FoldersConfig
from slimcam.training.data.recognition.packed import PackedConfig
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.data.recognition.teacher_targets import TeacherTargets
from slimcam.training.data.sources import fingerprint, load, material
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.config import LossConfig, TeacherConfig, TrainConfig
from slimcam.training.tasks.recognition.model import ModelConfig
from slimcam.training.tasks.recognition.task import external_targets
from slimcam.training.tasks.recognition.teacher import Files, ViewTargets


@pytest.fixture
def root(tmp_path):
    """Six people with three JPEG files each; one of another size than a face."""
    rng = np.random.default_rng(0)
    for person in range(6):
        folder = tmp_path / "faces" / f"person {person}"
        folder.mkdir(parents=True)
        for number in range(3):
            size = 150 if (person, number) == (0, 0) else 112
            pixels = rng.integers(0, 255, size=(size, size, 3), dtype=np.uint8)
            cv2.imencode(".jpg", pixels)[1].tofile(folder / f"{number}.jpg")
        (folder / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "faces"


def packed_of(config, tmp_path) -> PackedConfig:
    path = tmp_path / "faces.npz"
    packed.write(path, load(config, tmp_path), material(config), fingerprint(config))
    return PackedConfig(path=str(path))


def assert_same(a: FaceSet, b: FaceSet) -> None:
    assert a.identities == b.identities
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.labels.dtype == b.labels.dtype
    for i in range(len(a)):
        np.testing.assert_array_equal(a.images[i], b.images[i])


def assert_same_pairs(a: Pairs, b: Pairs) -> None:
    for name in ("left", "right", "same", "fold"):
        first, second = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(first, second)
        assert first.dtype == second.dtype


@pytest.mark.parametrize("kind", ["folders", "synthetic"])
def test_packed_faces_are_those_of_the_source(kind, root, tmp_path):
    folders = FoldersConfig(root=str(root), test_fraction=0.4, test_pairs=8)
    config = folders if kind == "folders" else SyntheticConfig(3, 2, 2, 2, 4, workers=1)
    there, here = load(config, tmp_path), load(packed_of(config, tmp_path), tmp_path)
    assert_same(here.train, there.train)
    assert_same(here.test, there.test)
    assert_same_pairs(here.pairs, there.pairs)
    assert here.notes == tuple(there.notes)
    assert here.held_out == ()
    assert fingerprint(PackedConfig(path=str(tmp_path / "faces.npz"))) == fingerprint(config)
    assert material(PackedConfig(path=str(tmp_path / "faces.npz"))) == material(config)


def test_people_held_out_are_packed_as_well(root, tmp_path):
    files = FileImages(sorted(root.glob("*/[0-9].jpg")))
    labels = (np.arange(18) // 3).astype(np.int32)
    everyone = FaceSet(files, labels, tuple("abcdef"))
    some = np.array([3, 4, 9], np.int64)
    pairs = Pairs(*np.array([[0, 1], [1, 2]], np.int32), np.array([True, False]), np.array([0, 1], np.int32))
    second = Verification(FaceSet(Selection(files, some), labels[some], tuple("abcdef")), pairs, "elsewhere")
    packed.write(tmp_path / "faces.npz", FaceData(everyone, everyone, pairs, (), (second,)), {}, "0")
    (held_out,) = packed.load(PackedConfig(path=str(tmp_path / "faces.npz"))).held_out
    assert held_out.source == "elsewhere"
    assert_same(held_out.faces, second.faces)
    assert_same_pairs(held_out.pairs, second.pairs)


def test_files_are_packed_as_they_are_and_a_pack_of_a_pack_is_the_same_file(root, tmp_path):
    config = FoldersConfig(root=str(root), test_fraction=0.4, test_pairs=8)
    first = packed_of(config, tmp_path)
    files = sum(file.stat().st_size for file in root.glob("*/[0-9].jpg"))
    assert (tmp_path / "faces.npz").stat().st_size < files + 10_000
    again = packed_of(first, tmp_path / "again")
    assert (tmp_path / "again" / "faces.npz").read_bytes() == (tmp_path / "faces.npz").read_bytes()
    assert fingerprint(again) == fingerprint(config)


def test_packed_faces_give_the_same_batches(root, tmp_path):
    config = FoldersConfig(root=str(root), test_fraction=0.4, test_pairs=8)
    sets = load(config, tmp_path).train, load(packed_of(config, tmp_path), tmp_path).train
    one, other = (list(Batches(faces, 4, AugmentConfig(), seed=1).stream([48] * 5)) for faces in sets)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_a_file_that_is_no_whole_pack_is_refused_in_one_line(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load(PackedConfig(path=str(tmp_path / "none.npz")), tmp_path)
    config = packed_of(FoldersConfig(root=str(root), test_fraction=0.4, test_pairs=8), tmp_path)
    path, whole = tmp_path / "faces.npz", (tmp_path / "faces.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    np.savez(tmp_path / "other.npz", about='{"format": "another"}')
    np.save(tmp_path / "array.npy", np.zeros(3))
    other = [(tmp_path / name).read_bytes() for name in ("other.npz", "array.npy")]
    for content in (b"", b"no pack", whole[:-100], bytes(flipped), *other):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole pack of faces"):
            load(config, tmp_path)


class BrightnessTeacher:
    """In the place of a teacher's runtime: embeddings are mean colors; counts what it was shown."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return TeacherTargets(images.mean(axis=(1, 2)).astype(np.float32))


def test_the_pack_stage_makes_a_table_that_a_training_needs_no_teacher_for(root, tmp_path, monkeypatch):
    (tmp_path / "teacher.onnx").write_bytes(b"a teacher")
    teacher = TeacherConfig(path=str(tmp_path / "teacher.onnx"), flip=False, views=2)
    loss = LossConfig(classification="none", distillation_weight=1.0)
    train = TrainConfig(teacher=teacher, loss=loss, augment=AugmentConfig(mixup=0.3), workers=2)
    folders = FoldersConfig(root=str(root), test_fraction=0.4, test_pairs=8)
    runtime = BrightnessTeacher()
    monkeypatch.setattr("slimcam.training.tasks.recognition.teacher.open_teacher", lambda *_: runtime)

    def job(data, cache) -> Job:
        model = ModelConfig(embedding_size=3)
        config = SimpleNamespace(data=data, model=model, train=train)
        (tmp_path / "out").mkdir(exist_ok=True)
        return Job(config, {}, tmp_path / "out", tmp_path / "work", cache)

    pack.run(job(folders, tmp_path / "cache"))
    assert "faces.npz" in {path.name for path in (tmp_path / "out").iterdir()}
    assert str(tmp_path) not in str(packed.source(PackedConfig(path=str(tmp_path / "out" / "faces.npz"))))

    def no_runtime(*_):
        raise AssertionError("the teacher was asked for")

    # What a training here would be told, view by view, against what the pack tells one elsewhere.
    here = load(folders, tmp_path)
    table = ViewTargets(runtime, Files(tmp_path / "live.npy"), len(here.train), 2)
    monkeypatch.setattr("slimcam.training.tasks.recognition.teacher.open_teacher", no_runtime)
    elsewhere = job(PackedConfig(path=str(tmp_path / "out" / "faces.npz")), tmp_path / "out")
    there = load(elsewhere.config.data, elsewhere.cache)
    targets = external_targets(elsewhere, there)
    streams = [
        Batches(faces, 5, train.augment, train.seed, told).stream([112] * 8)
        for faces, told in ((here.train, table), (there.train, targets))
    ]
    for a, b in zip(*streams, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
        said = a.targets.embeddings
        unit = said / np.linalg.norm(said, axis=1, keepdims=True)
        np.testing.assert_allclose(b.targets.embeddings, unit, atol=1e-6)
