"""The page of options and the help say what the dataclasses say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from slimcam.pipeline.options import help_text, options_of, page

PAGE = Path(__file__).parent.parent.parent / "docs/options.md"


def test_the_page_is_that_of_the_dataclasses():
    # python -m slimcam.pipeline.options > docs/options.md
    assert PAGE.read_text() == page()


def test_every_option_of_the_page_has_a_meaning():
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert all(len(row) == 3 and len(row[2].strip(" |")) > 5 for row in rows)
    assert any(row[0] == "| `fit.learning_rate`" and row[1] == "`0.1`" for row in rows)


def test_the_help_tells_what_options_mean():
    lines = help_text().splitlines()
    assert any(line.split()[0] == "train.fit.epochs" and "Passes over the training images" in line for line in lines)
    assert all(len(line.split(None, 1)) == 2 for line in lines)


def test_an_option_without_a_meaning_is_refused():
    @dataclass
    class Silent:
        """A section.

        Attributes:
            told: What it is.
        """

        told: int = 1
        untold: int = 2

    with pytest.raises(ValueError, match=r"Silent\.untold is not described"):
        list(options_of(Silent))
