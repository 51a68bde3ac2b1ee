"""A release: a detector and a recognizer that belong together, and what is signed about them.

Each part is a TUF target, `releases/NUMBER/PART.tar`, whose signed `custom` metadata says the same of the whole
release. Numbers in it are integers, since TUF's canonical JSON has no floats: shares are in millionths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PARTS = ("detector", "recognizer")

RINGS = ("canary", "stable")
"""Devices of `canary` take what either ring is given, all others what `stable` is."""

CUSTOM = "slimcam"
"""The key of a target's `custom` metadata that ours lies under."""

SCHEMA = 1
MILLION = 1_000_000
LARGEST_NUMBER = 999_999_999

_TARGET = re.compile(r"releases/([1-9][0-9]{0,8})/(detector|recognizer)\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """What is signed about one bundle of a release.

    Attributes:
        archive: SHA-256 of the archive, which is the target.
        manifest: SHA-256 of the bundle's manifest, which has those of its files.
        model: SHA-256 of the model file; that of a recognizer names its embedding space.
        golden: SHA-256 of the golden vectors.
        gates: Figure and bound of each gate, in millionths; all were passed.
        thresholds: Scores by error rate, in millionths.
    """

    archive: str
    manifest: str
    model: str
    golden: str
    gates: dict[str, list[int]]
    thresholds: dict[str, int]


@dataclass(frozen=True)
class Release:
    """What is signed about a release.

    Attributes:
        number: Number of the release; a later one has a higher number.
        parts: Bundles of the release, by what they are: `detector`, `recognizer`.
        minimum: Lowest number of a release that a device may use once it has kept this one.
        runtime: Lowest version of the TFLite runtime, as its numbers: `[2, 0]`.
        slowdown: Percent of the latency of the models in use that the new ones may have on the same device.
        rings: Percent of the devices of each ring that may take the release.
        withdrawn: Whether no device may take the release any more.
    """

    number: int
    parts: dict[str, Part]
    minimum: int = 0
    runtime: list[int] = field(default_factory=lambda: [0])
    slowdown: int = 150
    rings: dict[str, int] = field(default_factory=dict)
    withdrawn: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.number <= LARGEST_NUMBER:
            raise ValueError(f"a release has a number from 1 to {LARGEST_NUMBER}; got {self.number}")
        if not 0 <= self.minimum <= self.number:
            raise ValueError(f"the minimum version is from 0 to the release's own, {self.number}; got {self.minimum}")
        if not 100 <= self.slowdown <= 10_000:
            raise ValueError(f"slowdown is from 100 to 10000 percent of the latency before; got {self.slowdown}")
        for ring, percent in self.rings.items():
            if ring not in RINGS:
                raise ValueError(f"ring is {' or '.join(RINGS)}; got {ring!r}")
            if not 0 <= percent <= 100:
                raise ValueError(f"percent is from 0 to 100; got {percent}")

    def custom(self) -> dict[str, Any]:
        """As it is signed."""
        return {CUSTOM: {"schema": SCHEMA, **asdict(self), "withdrawn": int(self.withdrawn)}}

    def offered(self, device: str, ring: str) -> bool:
        """Whether a device may take it: its ring, and for a share of a ring the hash of device and release."""
        percent = max(self.rings.get("stable", 0), self.rings.get("canary", 0) if ring == "canary" else 0)
        return not self.withdrawn and bucket(device, self.number) < percent


def bucket(device: str, number: int) -> int:
    """0 to 99: which percent of the devices a device is in for a release. Another release samples it again."""
    digest = hashlib.sha256(f"{number}:{device}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") * 100 >> 64


def target_name(number: int, part: str) -> str:
    return f"releases/{number}/{part}.tar"


def release_numbers(targets: Iterable[str]) -> list[int]:
    """The numbers of the releases that have a target of ours, ascending; any other name is none of a release."""
    return sorted({int(found[1]) for name in targets if (found := _TARGET.fullmatch(name))})


def read_release(customs: Mapping[str, Any], number: int) -> Release:
    """The release that the `custom` metadata of its targets describes.

    Args:
        customs: Custom metadata of the targets, by part.

    Raises:
        ValueError: a part is missing, they describe different releases, or something is not as it is signed.
    """
    if missing := [part for part in PARTS if part not in customs]:
        raise ValueError(f"release {number} has no {' and no '.join(missing)}: it is both parts or none")
    first, second = (_parsed(customs[part], number) for part in PARTS)
    if first != second:
        raise ValueError(f"release {number}: its detector and its recognizer are of different releases")
    return first


def choose(
    releases: Iterable[Release], device: str, ring: str, newer_than: int, minimum: int, bad: Iterable[int]
) -> Release | None:
    """The newest release that a device may take; `None` if there is none.

    Args:
        newer_than: Release in use.
        minimum: Lowest number that the device takes, whatever is signed: TUF alone takes a validly signed older model.
        bad: Numbers of the releases that failed on this device.
    """
    refused = set(bad)
    fit = [
        one
        for one in releases
        if one.number > newer_than and one.number >= minimum and one.number not in refused and one.offered(device, ring)
    ]
    return max(fit, key=lambda one: one.number, default=None)


def _parsed(custom: Any, number: int) -> Release:
    try:
        facts = dict(custom[CUSTOM])
        if facts.pop("schema") != SCHEMA:
            raise ValueError(f"release {number} is described in another schema; update slimcam on this device")
        if missing := {one.name for one in fields(Release)} - facts.keys():
            raise KeyError(min(missing))
        release = Release(
            **{
                **facts,
                "parts": {part: Part(**facts["parts"][part]) for part in PARTS},
                "withdrawn": bool(facts["withdrawn"]),
            }
        )
        digests = [digest for p in release.parts.values() for digest in (p.archive, p.manifest, p.model, p.golden)]
        if not all(_SHA256.fullmatch(digest) for digest in digests) or len(facts["parts"]) != len(PARTS):
            raise TypeError("digests")
        if not all(isinstance(number, int) for number in release.runtime):
            raise TypeError("runtime")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"release {number}: its signed description is incomplete ({error})") from error
    if release.number != number:
        raise ValueError(f"release {number} is described as release {release.number}")
    return release
