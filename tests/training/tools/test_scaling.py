"""The calculation of how a training scales."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slimcam.training.tools.scaling import FLOAT, WEIGHTS, Machine, Training, head_memory, main, parts, speed

MACHINE = Machine()
WHOLE = Training(gpus=1, width=1.0, batch=128, identities=1_000_000, sample=1.0, embedding=512)


def test_a_published_throughput_comes_out_again():
    """2,470 images a second of ResNet-50 at 224 px on one A100: four times as many multiplications as at 112 px."""
    seconds = parts(replace(WHOLE, width=4.1**0.5), MACHINE)["network"]
    assert 128 / seconds == pytest.approx(2470, rel=0.02)


def test_one_device_averages_nothing_and_a_ring_passes_nearly_all_twice():
    weights = FLOAT * (WEIGHTS + 512 * 1_000_000)
    assert parts(WHOLE, MACHINE)["all-reduce"] == 0
    assert parts(replace(WHOLE, gpus=8), MACHINE)["all-reduce"] == pytest.approx(2 * 7 / 8 * weights / MACHINE.link)
    assert (
        parts(replace(WHOLE, gpus=64), MACHINE)["all-reduce"]
        > 20 * parts(replace(WHOLE, gpus=8), MACHINE)["all-reduce"]
    )


def test_a_sample_saves_time_and_memory_of_the_head():
    sampled = replace(WHOLE, sample=0.1)
    assert parts(sampled, MACHINE)["head"] < 0.2 * parts(WHOLE, MACHINE)["head"]
    assert parts(sampled, MACHINE)["network"] == parts(WHOLE, MACHINE)["network"]
    assert head_memory(sampled) < head_memory(WHOLE)


def test_the_limit_moves_from_the_network_to_what_the_machines_share():
    small = replace(WHOLE, identities=10_000)
    assert speed(small, MACHINE)[1] == "network"
    assert speed(WHOLE, MACHINE)[1] == "head"
    assert speed(replace(WHOLE, gpus=16), MACHINE)[1] == "all-reduce"
    images, limit = speed(replace(small, gpus=64, width=0.25), MACHINE)
    assert limit == "input"
    assert images == pytest.approx(1000 * MACHINE.cores / MACHINE.image_ms)


def test_the_tables_have_a_row_for_each_number_of_gpus(capsys):
    main([])
    first, second = (block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n"))
    assert [line.split()[0] for line in first[1:]] == ["1", "2", "4", "8", "16", "32", "64"]
    assert len(second) == 1 + 3 * 2
    with pytest.raises(SystemExit, match="sample is above 0 and up to 1"):
        main(["--sample", "0"])
