"""What of an option is part of the key of a result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.common.result_key import KEY_FILE, KEY_UNLESS_DEFAULT, NOT_KEY, in_key, key_material


class Color(Choice):
    RGB = "rgb"
    BGR = "bgr"


@dataclass
class Part:
    weight: float = field(default=1.0, metadata=KEY_UNLESS_DEFAULT)


@dataclass
class Section:
    path: str | None = field(default=None, metadata=KEY_FILE)
    mixup: float = field(default=0.0, metadata=in_key(name="mix"))
    workers: int = field(default=0, metadata=NOT_KEY)
    parts: list[Part] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    part: Part = field(default_factory=Part)
    color: str = Color.RGB
    options: dict[str, Any] = field(default_factory=dict)


def test_an_option_is_material_as_it_is_unless_its_field_says_otherwise() -> None:
    assert key_material(Section()) == {"path": None, "mix": 0.0, "part": {}, "color": "rgb", "options": {}}
    assert key_material(Section(workers=3)) == key_material(Section())
    assert key_material(Section(mixup=0.5))["mix"] == 0.5


def test_an_option_of_a_later_version_is_material_where_it_is_set() -> None:
    assert key_material(Section(parts=[Part(), Part(2.0)]))["parts"] == [{}, {"weight": 2.0}]
    assert key_material(Section(part=Part(2.0)))["part"] == {"weight": 2.0}


def test_a_named_file_counts_by_its_content(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.write_text("weights")
    there.write_text("weights")
    assert key_material(Section(path=str(here))) == key_material(Section(path=str(there)))
    there.write_text("other weights")
    assert key_material(Section(path=str(here))) != key_material(Section(path=str(there)))
    assert key_material(Section(path="absent"))["path"] == "absent"


def test_a_file_that_has_the_name_of_a_value_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = key_material(Section(color="bgr", options={"path": "x"}))
    for name in ("bgr", "x"):
        Path(name).write_text("a file")
    assert key_material(Section(color="bgr", options={"path": "x"})) == before


def test_material_is_json_and_a_choice_is_its_text() -> None:
    assert json.dumps(key_material(Section(color=Color.BGR)), sort_keys=True) == json.dumps(
        key_material(Section(color="bgr")), sort_keys=True
    )
