from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from deploy.common.choice import Choice


class Size(Choice):
    small = "small"
    large = "large"


@dataclass
class Config:
    size: Size = Size.small


def test_a_member_is_the_text_that_is_written() -> None:
    assert Size.small == "small"
    assert f"{Size.small}" == str(Size.small) == "small"
    assert json.dumps({"size": Size.small}) == '{"size": "small"}'


def test_another_value_is_refused_with_those_that_are_known() -> None:
    assert Size.of("large", "size") is Size.large
    assert Size.of(Size.large, "size") is Size.large
    with pytest.raises(ValueError, match=r"^size is one of small, large; got 'huge'$"):
        Size.of("huge", "size")


def test_configurations_take_it_as_it_is_written() -> None:
    merged = OmegaConf.merge(OmegaConf.structured(Config), {"size": "large"})
    assert OmegaConf.to_object(merged) == Config(Size.large)
