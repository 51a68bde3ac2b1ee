"""The command that measures a head of many identities."""

from __future__ import annotations

import pytest

from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tools import sampled_head
from slimcam.training.tools.sampled_head import cost, main


def test_a_whole_and_a_sampled_head_are_trained_and_measured():
    for share in (1.0, 0.1):
        peak, milliseconds = cost(200, LossConfig(sample=share), embedding=16, batch=8, steps=2)
        assert peak > 100
        assert milliseconds > 0


def test_each_share_has_a_row_with_what_its_head_adds_to_the_memory(capsys, monkeypatch):
    # In a process of its own each would import Keras.
    monkeypatch.setattr(sampled_head, "_in_process", lambda identities, loss, _: (600 + identities * loss.sample, 2.0))
    main(["--identities", "1000", "--sample", "1", "0.1"])
    rows = [line.split() for line in capsys.readouterr().out.strip().splitlines()]
    assert rows[1:] == [["1", "1,600", "990", "2"], ["0.1", "700", "90", "2"]]


def test_a_share_that_is_none_is_one_line():
    with pytest.raises(SystemExit, match=r"sampled_head: loss\.sample is a share, above 0 and up to 1; got 2\.0"):
        main(["--sample", "2"])
