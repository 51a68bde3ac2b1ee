"""People of a labeled set divided into those to train on and those to be judged on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slimcam.training.data.images import Selection
from slimcam.training.data.recognition.faces import FaceData, FaceSet
from slimcam.training.data.recognition.pairs import sample_pairs


def split_people(faces: FaceSet, fraction: float, pairs: int, seed: int, notes: Sequence[str] = ()) -> FaceData:
    """Keeps a share of the people for verification, and samples pairs of them.

    Args:
        fraction: share of the people kept; two of them at the least, and never all.
        pairs: number of pairs.
        seed: of the split and the pairs.

    Raises:
        ValueError: as `sample_pairs`.
    """
    count = len(faces.identities)
    held = min(max(2, round(fraction * count)), count - 1)
    kept = np.zeros(count, bool)
    kept[np.random.default_rng(seed).permutation(count)[:held]] = True
    test = people_of(faces, kept)
    return FaceData(people_of(faces, ~kept), test, sample_pairs(test.labels, pairs, seed=seed), notes)


def people_of(faces: FaceSet, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FaceSet:
    """The faces of some people, `chosen[label]`, labeled anew in the order that they have."""
    places = np.flatnonzero(chosen[faces.labels])
    labels = (np.cumsum(chosen) - 1)[faces.labels[places]].astype(np.int32)
    names = tuple(name for name, one in zip(faces.identities, chosen, strict=True) if one)
    return FaceSet(Selection(faces.images, places), labels, names)
