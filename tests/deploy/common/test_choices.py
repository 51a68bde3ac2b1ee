from __future__ import annotations

import json

import pytest

from slimcam.deploy.common.choices import Choice, choose


class Color(Choice):
    RED = "red"
    GREEN = "green"


def test_a_choice_is_its_text() -> None:
    assert choose("color", Color, "red") is Color.RED
    assert str(Color.RED) == f"{Color.RED}" == "red"
    assert json.dumps(Color.RED) == '"red"'


def test_another_text_is_refused_with_the_option_and_the_choices() -> None:
    with pytest.raises(ValueError, match=r"color is one of red, green; got 'blue'"):
        choose("color", Color, "blue")
