"""What the task of recognition refuses to learn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
import tf_keras

from slimcam.training.data.recognition import verification_pack
from slimcam.training.data.recognition.packed_sets import RecordsConfig
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.task import Recognition
from slimcam.training.tasks.task import Teacher, TrainingSpec
from slimcam.training.tools.convert_faces import convert


def test_a_single_person_is_refused_with_the_number_needed(tmp_path: Path) -> None:
    """Of a set that is evaluated on packs no people are kept, so that one alone may be left to train on."""
    face = cv2.imencode(".png", np.zeros((112, 112, 3), np.uint8))[1].tobytes()
    (tmp_path / "faces/person").mkdir(parents=True)
    (tmp_path / "faces/person/1.png").write_bytes(face)
    convert(tmp_path / "faces", tmp_path / "set", "records")
    verification_pack.write(tmp_path / "set/lfw.bin", 4 * [face], np.array([True, False]))
    data = RecordsConfig(root=str(tmp_path / "set"), packs=["lfw.bin"])
    job = Job(SimpleNamespace(data=data), {}, tmp_path, tmp_path, tmp_path)
    spec = TrainingSpec(FitConfig(), LossConfig(), Teacher.EXTERNAL, None, keras, "training")
    with pytest.raises(ValueError, match=r"^1 person to train on: to tell people apart takes 2 at the least"):
        Recognition(job).learn(None, spec, job)


@pytest.mark.parametrize(("module", "accumulate"), [(tf_keras, 1), (keras, 2)], ids=["tf_keras", "accumulated"])
def test_a_sample_of_the_people_is_refused_where_a_step_cannot_have_one_of_its_own(
    module, accumulate, tmp_path
) -> None:
    job = Job(SimpleNamespace(), {}, tmp_path, tmp_path, tmp_path)
    fit = FitConfig(accumulate=accumulate)
    spec = TrainingSpec(fit, LossConfig(sample=0.5), Teacher.EXTERNAL, None, module, "training")
    with pytest.raises(ValueError, match=r"loss\.sample .* is for Keras 3, .* and goes without fit\.accumulate"):
        Recognition(job).learn(None, spec, job)
