from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from slimcam.deploy.ota.release import (
    CUSTOM,
    PARTS,
    Part,
    Release,
    bucket,
    choose,
    read_release,
    release_numbers,
    target_name,
)

PART = Part("a" * 64, "b" * 64, "c" * 64, "d" * 64, {"size_mb": [2_490_936, 2_800_000]}, {"0.001": 399_917})
RELEASE = Release(8, dict.fromkeys(PARTS, PART), minimum=5, runtime=[2, 1], rings={"canary": 100, "stable": 25})


def customs(release: Release) -> dict[str, Any]:
    return dict.fromkeys(PARTS, json.loads(encode_canonical(release.custom()) or ""))


def test_a_release_is_described_in_what_tuf_can_sign_and_comes_back() -> None:
    assert read_release(customs(RELEASE), 8) == RELEASE


@pytest.mark.parametrize("field", ["number", "parts", "minimum", "runtime", "slowdown", "rings", "withdrawn", "schema"])
def test_a_description_that_lacks_something_is_refused(field: str) -> None:
    described = customs(RELEASE)
    for one in described.values():
        one[CUSTOM].pop(field, None)
    with pytest.raises(ValueError, match="release 8: its signed description is incomplete"):
        read_release(described, 8)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"number": 9}, "release 8 is described as release 9"),
        ({"schema": 2}, "update slimcam"),
        ({"minimum": 9}, "minimum version"),
        ({"slowdown": 99}, "slowdown"),
        ({"rings": {"everybody": 100}}, "ring is"),
        ({"rings": {"stable": 101}}, "percent"),
        ({"runtime": ["2"]}, "incomplete"),
        ({"parts": {}}, "incomplete"),
        ({"extra": 1}, "incomplete"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes: dict[str, Any], match: str) -> None:
    described = {part: {CUSTOM: {**RELEASE.custom()[CUSTOM], **changes}} for part in PARTS}
    with pytest.raises(ValueError, match=match):
        read_release(described, 8)


@given(st.lists(st.text()))
def test_names_that_are_none_of_a_release_are_passed_over(names: list[str]) -> None:
    ours = [target_name(3, "detector"), target_name(12, "recognizer")]
    assert release_numbers([*names, *ours]) == [3, 12]


def test_a_percentage_is_of_the_devices_and_another_one_for_each_release() -> None:
    devices = [f"camera-{number}" for number in range(4000)]
    for percent in (1, 10, 50):
        taken = {device for device in devices if bucket(device, 8) < percent}
        assert len(taken) / len(devices) == pytest.approx(percent / 100, abs=0.02)
        assert taken <= {device for device in devices if bucket(device, 8) < percent + 1}
    both = sum(bucket(device, 8) < 50 and bucket(device, 9) < 50 for device in devices)
    assert both / len(devices) == pytest.approx(0.25, abs=0.03)


def test_canaries_take_what_either_ring_is_given() -> None:
    release = replace(RELEASE, rings={"canary": 100})
    assert release.offered("door", "canary")
    assert not release.offered("door", "stable")
    release = replace(RELEASE, rings={"stable": 100})
    assert release.offered("door", "canary")
    assert release.offered("door", "stable")
    assert not replace(release, withdrawn=True).offered("door", "canary")


def test_the_newest_release_is_chosen_that_the_device_may_take() -> None:
    everywhere = {"stable": 100}
    releases = [replace(RELEASE, number=number, minimum=0, rings=everywhere) for number in (5, 6, 7)]
    releases.append(replace(RELEASE, number=8, withdrawn=True))

    def chosen(newer_than: int = 0, minimum: int = 0, bad: tuple[int, ...] = ()) -> int | None:
        found = choose(releases, "door", "stable", newer_than, minimum, bad)
        return None if found is None else found.number

    assert chosen() == 7
    assert chosen(bad=(7,)) == 6
    assert chosen(newer_than=7) is None
    assert chosen(newer_than=4, minimum=6, bad=(7, 6)) is None
