"""People of a labeled set divided into those to train on and those to be evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slimcam.training.data.images import Selection
from slimcam.training.data.recognition.faces import FaceData, FaceSet, Verification
from slimcam.training.data.recognition.pairs import sample_pairs

LEAST_PEOPLE = 4
"""Two to train on and two others to verify."""


def too_few(people: int, root: str, hint: str = "") -> ValueError:
    """The error of a source with fewer than `LEAST_PEOPLE` people; `hint` ends its message."""
    return ValueError(
        f"data.root {root}: {people} people with readable images; at least {LEAST_PEOPLE} are needed, 2 to train on "
        f"and 2 others to verify{hint}"
    )


def split_people(
    faces: FaceSet, fraction: float, pairs: int, seed: int, notes: Sequence[str] = (), held_out: float = 0.0
) -> FaceData:
    """Keeps a share of `LEAST_PEOPLE` or more people for verification, and samples pairs of them.

    Args:
        fraction: share of the people kept; two of them at the least, and two are left to train on.
        pairs: number of pairs.
        seed: of the split and the pairs.
        held_out: share of the people by whom the best weights are chosen; none at 0, else two of them at the least.

    Raises:
        ValueError: as `sample_pairs`, or the shares leave too few people to train on.
    """
    count = len(faces.identities)
    kept = min(max(2, round(fraction * count)), count - 2)
    chosen = max(2, round(held_out * count)) if held_out else 0
    if kept + chosen > count - 2:
        raise ValueError(
            f"data: {kept} of {count} people to verify and {chosen} held out leave {count - kept - chosen} to train "
            "on; 2 are needed: lower data.test_fraction or data.held_out_fraction"
        )
    part = np.zeros(count, np.int8)
    order = np.random.default_rng(seed).permutation(count)
    part[order[:kept]], part[order[kept : kept + chosen]] = 1, 2
    train, test, others = (people_of(faces, part == number) for number in range(3))
    held: tuple[Verification, ...] = ()
    if chosen:
        held = (Verification(others, sample_pairs(others.labels, pairs, seed=seed)),)
    return FaceData(train, test, sample_pairs(test.labels, pairs, seed=seed), notes, held)


def people_of(faces: FaceSet, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FaceSet:
    """The faces of some people, `chosen[label]`, relabeled in the order that they have."""
    places = np.flatnonzero(chosen[faces.labels])
    labels = (np.cumsum(chosen) - 1)[faces.labels[places]].astype(np.int32)
    names = tuple(name for name, one in zip(faces.identities, chosen, strict=True) if one)
    return FaceSet(Selection(faces.images, places), labels, names)
