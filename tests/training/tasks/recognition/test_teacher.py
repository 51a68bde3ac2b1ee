"""Teachers: their crop and colors, their cache, and what is said of a wrong one."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow as tf

from slimcam.deploy.common.vectors import unit_length
from slimcam.training.tasks.recognition.config import TeacherConfig, TeacherModelConfig
from slimcam.training.tasks.recognition.teacher import open_teacher, teacher_targets


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A network that gives the mean of each color over its input, and twice the first color's."""
    inputs = tf.keras.Input((112, 96, 3), batch_size=1)
    means = tf.keras.layers.GlobalAveragePooling2D()(inputs)
    double = tf.keras.layers.Lambda(lambda x: 2 * x[:, :1])(means)
    model = tf.keras.Model(inputs, tf.keras.layers.Concatenate()([means, double]))
    path = tmp_path_factory.mktemp("teacher") / "mean.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def config(path, **options):
    return TeacherConfig(path=str(path), crop=[0, 8, 112, 96], mean=100.0, scale=50.0, flip=False, **options)


FACES = np.random.default_rng(0).integers(0, 255, size=(3, 112, 112, 3), dtype=np.uint8)


def table(targets):
    everything = np.arange(len(FACES))
    return targets(everything, np.zeros_like(everything), FACES).embeddings


def test_a_teacher_sees_its_own_crop_normalization_and_colors(teacher):
    expected = ((FACES[:, :, 8:104].astype(np.float32) - 100) / 50).mean(axis=(1, 2))
    rgb, bgr = (open_teacher(config(teacher, color=color))(FACES).embeddings for color in ("rgb", "bgr"))
    np.testing.assert_allclose(rgb[:, :3], expected, atol=1e-4)
    np.testing.assert_allclose(rgb[:, 3], 2 * expected[:, 0], atol=1e-4)
    np.testing.assert_allclose(bgr[:, :3], expected[:, ::-1], atol=1e-4)


def test_targets_are_unit_length_and_computed_once(teacher, tmp_path):
    first = table(teacher_targets(config(teacher), FACES, "data", tmp_path, 4))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    stamp = [path.stat().st_mtime_ns for path in tmp_path.iterdir()]
    np.testing.assert_array_equal(table(teacher_targets(config(teacher), FACES, "data", tmp_path, 4)), first)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == stamp
    teacher_targets(config(teacher), FACES, "other data", tmp_path, 4)
    assert len(list(tmp_path.iterdir())) == 2


def test_flipping_gives_a_target_that_the_mirror_image_shares(teacher, tmp_path):
    flipping = TeacherConfig(path=str(teacher), crop=[0, 8, 112, 96])
    a = teacher_targets(flipping, FACES, "faces", tmp_path, 4)
    b = teacher_targets(flipping, FACES[:, :, ::-1], "mirrored", tmp_path, 4)
    np.testing.assert_allclose(table(a), table(b), atol=1e-5)


def test_a_teacher_that_sees_the_views_is_asked_once_for_each(teacher, tmp_path, monkeypatch):
    asked = []
    original = open_teacher

    def counting(*options):
        embed = original(*options)

        def counted(images):
            asked.append(len(images))
            return embed(images)

        return counted

    monkeypatch.setattr("slimcam.training.tasks.recognition.teacher.open_teacher", counting)
    views = config(teacher, views=2)
    targets = teacher_targets(views, FACES, "views", tmp_path, 4)
    asked.clear()
    indices, variants = np.array([0, 2]), np.array([0, 1])
    first = targets(indices, variants, FACES[indices]).embeddings
    assert asked == [2]
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    again = teacher_targets(views, FACES, "views", tmp_path, 4)
    asked.clear()
    np.testing.assert_array_equal(again(indices, variants, FACES[indices]).embeddings, first)
    assert asked == []
    again(np.array([0, 1]), np.array([0, 0]), FACES[:2])
    assert asked == [1]


def test_a_whole_table_needs_no_teacher_and_a_partial_one_does(teacher, tmp_path, monkeypatch):
    opened = []
    original = open_teacher
    monkeypatch.setattr(
        "slimcam.training.tasks.recognition.teacher.open_teacher",
        lambda *options: opened.append(1) or original(*options),
    )
    views = config(teacher, views=2)
    everything = np.arange(3)
    targets = teacher_targets(views, FACES, "views", tmp_path, 4)
    first = targets(everything, np.zeros_like(everything), FACES).embeddings
    again = teacher_targets(views, FACES, "views", tmp_path, 4)
    second = again(everything, np.ones_like(everything), FACES[::-1]).embeddings
    assert len(opened) == 2
    whole = teacher_targets(views, FACES, "views", tmp_path, 4)
    assert len(opened) == 2
    assert whole.views == 2
    np.testing.assert_array_equal(whole(everything, np.zeros_like(everything), FACES).embeddings, first)
    np.testing.assert_array_equal(whole(everything, np.ones_like(everything), FACES).embeddings, second)


@pytest.fixture(scope="module")
def onnx_teacher(tmp_path_factory):
    """A network that halves a face twice, by means of 2x2 pixels, and gives the mean of each color."""
    from onnx import TensorProto, helper, save

    halve = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("AveragePool", ["face"], ["half"], **halve),
        helper.make_node("AveragePool", ["half"], ["quarter"], **halve),
        helper.make_node("ReduceMean", ["quarter"], ["embedding"], axes=[2, 3], keepdims=0),
    ]
    face = helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, 3, 112, 112])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "teacher", [face], [embedding])
    path = tmp_path_factory.mktemp("onnx") / "mean.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_a_feature_map_is_told_with_the_embedding_and_kept(onnx_teacher, tmp_path, monkeypatch):
    options = TeacherConfig(path=str(onnx_teacher), flip=False, views=1, features="quarter", mean=0.0, scale=255.0)
    everything, first_view = np.arange(3), np.zeros(3, np.int64)
    targets = teacher_targets(options, FACES, "faces", tmp_path, 3)
    assert targets.channels == 3
    first = targets(everything, first_view, FACES)
    expected = FACES.reshape(3, 28, 4, 28, 4, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(first.features, expected, atol=1e-3)
    monkeypatch.delattr("slimcam.training.tasks.recognition.teacher.open_teacher")
    kept = teacher_targets(options, FACES, "faces", tmp_path, 3)
    assert kept.channels == 3
    again = kept(everything, first_view, FACES)
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.embeddings, first.embeddings)


def test_a_feature_map_that_is_not_there_is_named_with_what_is(onnx_teacher, teacher):
    with pytest.raises(ValueError, match="has no value 'quarters'; did you mean 'quarter'"):
        open_teacher(TeacherConfig(path=str(onnx_teacher)), "quarters")
    with pytest.raises(ValueError, match=r"read from \.onnx files"):
        open_teacher(config(teacher), "quarter")
    with pytest.raises(ValueError, match=r"give teacher\.views"):
        TeacherConfig(features="quarter")


def test_a_teacher_of_another_embedding_size_is_one_clear_line(teacher, tmp_path):
    with pytest.raises(
        ValueError, match=r"gives embeddings of 4, the model of 128: set model\.embedding_size=4 or less"
    ):
        teacher_targets(config(teacher), FACES, "data", tmp_path, 128)
    assert not list(tmp_path.iterdir())


def test_several_teachers_give_the_weighted_mean_of_their_cosines(teacher, onnx_teacher, tmp_path):
    def cosines(**options):
        options = {"crop": [0, 8, 112, 96], "mean": 100.0, "scale": 50.0, "flip": False, **options}
        said = table(teacher_targets(TeacherConfig(**options), FACES, "faces", tmp_path, 7))
        return said @ said.T

    other = TeacherModelConfig(path=str(onnx_teacher), mean=0.0, scale=255.0, weight=3.0)
    alone = [unit_length(open_teacher(model)(FACES).embeddings) for model in (config(teacher), other)]
    expected = 0.25 * alone[0] @ alone[0].T + 0.75 * alone[1] @ alone[1].T
    np.testing.assert_allclose(cosines(path=str(teacher), others=[other]), expected, atol=1e-5)


def test_what_a_stopped_process_computed_is_not_computed_again(teacher, tmp_path):
    many = np.concatenate([FACES] * 30)
    asked = []

    class Images:
        """All but the first 64 cannot be read until the process is started again."""

        broken = True

        def __len__(self):
            return len(many)

        def __getitem__(self, index):
            if self.broken and index >= 64:
                raise InterruptedError
            asked.append(int(index))
            return many[index]

    images = Images()
    with pytest.raises(InterruptedError):
        teacher_targets(config(teacher), images, "faces", tmp_path, 4)
    first, images.broken = sorted(asked), False
    asked.clear()
    targets = teacher_targets(config(teacher), images, "faces", tmp_path, 4)
    assert first == list(range(64))
    assert sorted(asked) == list(range(64, len(many)))
    everything = np.arange(len(many))
    found = targets(everything, np.zeros_like(everything), many).embeddings
    np.testing.assert_allclose(found, np.tile(found[:3], (30, 1)), atol=1e-6)


def test_embeddings_of_more_dimensions_are_projected_so_that_cosines_are_kept(teacher, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    whole = table(teacher_targets(config(teacher), FACES, "faces", tmp_path, 4))
    # The fourth dimension is twice the first: three hold all there is.
    short = table(teacher_targets(config(teacher), FACES, "faces", tmp_path, 3))
    assert short.shape == (3, 3)
    np.testing.assert_allclose(short @ short.T, whole @ whole.T, atol=1e-5)
    assert "4 dimensions projected to 3, which keep 100.0 % of the squared length" in caplog.text
    np.testing.assert_array_equal(table(teacher_targets(config(teacher), FACES, "faces", tmp_path, 3)), short)
    # A network that goes on learning on another machine finds the axes pointing the same way.
    axes = np.load(next(tmp_path.glob("axes-*.npy")))
    assert (axes.max(axis=0) == np.abs(axes).max(axis=0)).all()


def test_further_teachers_need_a_first_one():
    with pytest.raises(ValueError, match=r"beside the teacher of teacher\.path"):
        TeacherConfig(others=[TeacherModelConfig(path="b.onnx")])
    with pytest.raises(ValueError, match="needs a path"):
        TeacherConfig(path="a.onnx", others=[TeacherModelConfig()])


def test_files_that_are_no_teacher_are_refused(tmp_path):
    for name, message in (("a.onnx", "cannot be opened"), ("a.tflite", "cannot be opened"), ("a.pt", "expected a")):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(ValueError, match=message):
            teacher_targets(TeacherConfig(path=str(tmp_path / name)), FACES, "data", tmp_path, 4)
    with pytest.raises(FileNotFoundError, match="no file"):
        teacher_targets(TeacherConfig(path=str(tmp_path / "none.onnx")), FACES, "data", tmp_path, 4)


def test_a_crop_outside_the_face_is_refused():
    with pytest.raises(ValueError, match="does not lie inside"):
        TeacherConfig(crop=[0, 20, 112, 96])
