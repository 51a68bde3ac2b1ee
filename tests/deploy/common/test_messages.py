from __future__ import annotations

from slimcam.deploy.common.messages import did_you_mean, first_line, last_line, one_line


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("trian", ["prune", "train"]) == "; did you mean 'train'?"


def test_where_none_is_near_a_short_list_is_shown() -> None:
    assert did_you_mean("x", ["prune", "train"]) == "; known are prune, train"
    assert did_you_mean("x", []) == "; known are none"
    assert did_you_mean("x", [f"layer_{i}" for i in range(100)]) == ""


def test_an_error_is_its_first_line_that_says_something() -> None:
    assert first_line(ValueError("\n\n  no such node\nat graph.cc:12\n")) == "no such node"
    assert first_line(ValueError("")) == "ValueError"


def test_an_error_fits_on_one_line() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert one_line("two\n  lines") == "two lines"


def test_a_program_says_at_its_end_why_it_failed() -> None:
    assert last_line("starting\nno room\n\n", "nothing") == "no room"
    assert last_line("\n", "nothing") == "nothing"
