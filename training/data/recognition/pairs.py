"""Verification protocols made from labeled faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Selection
from slimcam.training.data.recognition.faces import FaceSet, Pairs, Verification


def sample_verification(faces: FaceSet, count: int, source: str | None = None) -> Verification:
    """Pairs sampled as by `sample_pairs`, and the faces that they are of; raises what it raises."""
    pairs = sample_pairs(faces.labels, count)
    used, places = np.unique(np.concatenate([pairs.left, pairs.right]), return_inverse=True)
    left, right = np.split(places.astype(np.int32), 2)
    chosen = FaceSet(Selection(faces.images, used.astype(np.int64)), faces.labels[used], faces.identities)
    return Verification(chosen, Pairs(left, right, pairs.same, pairs.fold), source)


def sample_pairs(labels: NDArray[np.int32], count: int, *, folds: int = 10, seed: int = 0) -> Pairs:
    """Samples `count` distinct pairs, half genuine and half impostor, dealt evenly over `folds`.

    Genuine pairs are sampled identity by identity, so that a person with many images does not rule the protocol.

    Args:
        labels: `(N,)` identity of each image.
        count: pairs asked for; fewer are returned where the images do not give as many.

    Raises:
        ValueError: no identity has two images, all images show one identity, or fewer than two pairs of a kind come
            out.
    """
    labels = np.asarray(labels)
    by_identity = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    several = [members for members in by_identity if len(members) > 1]
    if not several or len(by_identity) < 2:
        raise ValueError(
            f"verification pairs need two images of one identity and a second identity; "
            f"got {len(labels)} images of {len(by_identity)} identities, {len(several)} of them with two images"
        )
    rng = np.random.default_rng(seed)
    genuine: set[tuple[int, int]] = set()
    impostor: set[tuple[int, int]] = set()
    half = count // 2
    # Distinct pairs may run out on small sets: stop when sampling stops finding new ones.
    for _ in range(20 * half):
        if len(genuine) >= half:
            break
        a, b = rng.choice(several[rng.integers(len(several))], size=2, replace=False)
        genuine.add((int(min(a, b)), int(max(a, b))))
    for _ in range(20 * half):
        if len(impostor) >= len(genuine):
            break
        i, j = rng.choice(len(by_identity), size=2, replace=False)
        a, b = rng.choice(by_identity[i]), rng.choice(by_identity[j])
        impostor.add((int(min(a, b)), int(max(a, b))))
    if min(len(genuine), len(impostor)) < 2:
        raise ValueError(
            f"verification needs 2 genuine and 2 impostor pairs at the least; asked for {count} pairs, "
            f"{len(labels)} images of {len(by_identity)} identities gave {len(genuine)} and {len(impostor)}"
        )
    sampled = [(pair, True) for pair in sorted(genuine)] + [(pair, False) for pair in sorted(impostor)]
    order = rng.permutation(len(sampled))
    pairs = np.array([sampled[i][0] for i in order], dtype=np.int32)
    same = np.array([sampled[i][1] for i in order], dtype=bool)
    fold = np.empty(len(order), dtype=np.int32)
    for kind in (True, False):
        members = np.flatnonzero(same == kind)
        fold[members] = np.arange(len(members)) % folds
    return Pairs(left=pairs[:, 0], right=pairs[:, 1], same=same, fold=fold)
