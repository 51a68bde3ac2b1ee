"""Network, data and task of the user's own, named by `_target_`: found, part of the keys, and refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from slimcam.pipeline.cli import find_own_code
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.steps import steps
from slimcam.training.data import own
from slimcam.training.data.own import OwnDataConfig
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.tasks.classification.config import ClassifierConfig
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.model import ModelConfig
from slimcam.training.tasks.task import TaskConfig, task_of

SOURCE = """
import numpy as np

from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.tasks.classification.task import Classification


def load(root=None, count=4):
    images = [np.zeros((8, 8, 3), np.uint8)] * count
    return ClassData(*[FaceSet(images, np.arange(count, dtype=np.int32) % 2, ("a", "b"))] * 2)


def broken():
    raise ValueError("there are no images today")


class Mine(Classification):
    purpose = "Mine."
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in the working directory, which is found there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    find_own_code()
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path / "mine.py"


def test_a_file_of_the_users_hides_no_library_by_its_name(module: Path) -> None:
    assert sys.path[-1] == str(module.parent)
    find_own_code()
    assert sys.path.count(str(module.parent)) == 1


@pytest.mark.usefixtures("module")
def test_a_function_of_the_users_gives_the_data() -> None:
    data = own.load_classes(OwnDataConfig(_target_="mine.load", options={"count": 6}))
    assert isinstance(data.train, FaceSet)
    assert (len(data.train), data.classes) == (6, ("a", "b"))
    for target, message in (
        ("mine.broken", "data._target_ mine:broken: there are no images today"),
        ("mine.none", "data._target_ mine:none: expected module:name of your own"),
        ("nowhere.load", "data._target_ nowhere:load: expected module:name of your own"),
        ("mine.Mine", "data._target_ mine:Mine: .*job"),
        ("load", "data._target_ is package.module.name of your own code"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            own.load_classes(OwnDataConfig(_target_=target))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"mine:load gives a ClassData; the task needs a FaceData"):
        own.load_faces(OwnDataConfig(_target_="mine.load"))


def test_a_module_that_fails_is_named(module: Path) -> None:
    module.write_text("1 / 0\n")
    with pytest.raises(ValueError, match="mine cannot be imported: ZeroDivisionError: division by zero"):
        own.load_classes(OwnDataConfig(_target_="mine.load"))


@pytest.mark.usefixtures("module")
def test_a_class_of_the_users_is_the_task(tmp_path: Path) -> None:
    class Sections:
        data = OwnDataConfig(_target_="mine.load", task="classification")
        task = TaskConfig("mine.Mine")

    job = Job(Sections, {}, tmp_path, tmp_path, tmp_path)
    assert (task_of(job).purpose, task_of(job).classes) == ("Mine.", ("a", "b"))
    Sections.task = TaskConfig()
    assert type(task_of(job)).__name__ == "Classification"
    Sections.task = TaskConfig("mine.load")
    with pytest.raises(ValueError, match=r"task\._target_ mine:load: a subclass of slimcam.*\.Task is needed"):
        task_of(job)


def test_own_code_is_part_of_the_keys_and_the_names_of_it_are_one(module: Path) -> None:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        config = validate(
            compose(
                "slimcam",
                [
                    *("task=classification", "task._target_=mine.Mine", "model._target_=other.build"),
                    *("data=own", "data._target_=mine.load", "+data.options.root=photos"),
                ],
            )
        )
    assert (config.data.task, config.model.backbone) == ("classification", "other:build")
    assert ClassifierConfig(backbone="a.b:c") == ClassifierConfig(_target_=None, backbone="a.b:c")
    assert ModelConfig(_target_="a.b.c").backbone == "a.b:c"

    def keys() -> dict[str, str]:
        return {name: step.key for name, step in steps(config).items()}

    seen: list[dict[str, Any]] = [keys()]
    for change in (
        lambda: module.write_text(SOURCE + "\n"),
        lambda: module.with_name("other.py").write_text("def build(): ..."),
        lambda: (module.parent / "photos").mkdir(),
        lambda: (module.parent / "photos/1.png").write_text("a photo"),
    ):
        change()
        seen.append(keys())
        assert not set(seen[-1].values()) & set(seen[-2].values())
    assert keys() == seen[-1]
    # A task of one's own is part of what all stages depend on that ask for it; of others nothing changes.
    assert "task" in steps(config)["evaluate"].stage.sections
    config.task = TaskConfig()
    assert "task" not in steps(config)["evaluate"].stage.sections
