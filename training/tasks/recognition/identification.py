"""How well embeddings tell who a face is, among people of whom a few photos are enrolled.

Terms of NIST's FRVT part 2 (Grother et al. 2019, section 3): a mated probe shows an enrolled person, a non-mated one
somebody else. Of the people with photos enough one half is enrolled in a first round, the other half in a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.vectors import unit_length
from slimcam.training.tasks.recognition.verification import Float, threshold_at_far

# So many photos of each person are enrolled when identification is measured.
PHOTOS = (1, 3)


@dataclass(frozen=True)
class Identification:
    """Rates of identification.

    Attributes:
        photos: Number of photos enrolled of each person; the template is the mean of their embeddings of unit length.
        people: Number of people enrolled in each of the two rounds, on average.
        mated: Number of probes of enrolled people, both rounds.
        non_mated: Number of probes of other people, both rounds.
        rank_one: Share of the mated probes whose most similar template is their person's.
        rank_five: Share of the mated probes whose person's template is among the five most similar ones.
        tpir: For each false-positive identification rate, the share of the mated probes whose most similar template is
            their person's and as similar as the threshold of that rate asks for; rates that the non-mated probes are
            too few for are absent.
    """

    photos: int
    people: float
    mated: int
    non_mated: int
    rank_one: float
    rank_five: float
    tpir: dict[str, float]


def identification(
    embeddings: Float, labels: NDArray[np.int32], photos: int, rates: Sequence[float], seed: int = 0
) -> Identification | None:
    """Rates of identification with so many photos enrolled of each person; `None` if nobody has more than these.

    Args:
        embeddings: `(N, E)`.
        labels: `(N,)`, who each embedding is of.
        photos: sampled of each enrolled person's; the others are probes.
        rates: false-positive identification rates: shares of the non-mated probes that are taken for somebody.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    unit, places = unit_length(embeddings), rng.permutation(len(labels))
    images = {int(label): places[labels[places] == label] for label in np.unique(labels)}
    eligible = [label for label, own in images.items() if len(own) > photos]
    if len(eligible) < 2:
        return None
    rng.shuffle(eligible)
    half = len(eligible) // 2
    right, near, mated, non_mated = [], [], [], []
    for enrolled in (eligible[:half], eligible[half:]):
        templates = unit_length(np.stack([unit[images[label][:photos]].mean(axis=0) for label in enrolled]))
        probes = np.concatenate([images[label][photos:] for label in enrolled])
        scores = unit[probes] @ templates.T
        right.append(np.asarray(enrolled)[scores.argmax(axis=1)] == labels[probes])
        own = (np.asarray(enrolled) == labels[probes][:, None]).argmax(axis=1)
        near.append((scores > scores[np.arange(len(probes)), own][:, None]).sum(axis=1) < 5)
        mated.append(scores.max(axis=1))
        others = np.flatnonzero(~np.isin(labels, enrolled))
        non_mated.append((unit[others] @ templates.T).max(axis=1))
    hits, best, impostors = np.concatenate(right), np.concatenate(mated), np.sort(np.concatenate(non_mated))
    thresholds = {str(rate): threshold_at_far(impostors, rate) for rate in rates}
    return Identification(
        photos,
        len(eligible) / 2,
        len(hits),
        len(impostors),
        float(hits.mean()),
        float(np.concatenate(near).mean()),
        {rate: float(np.mean(hits & (best >= least))) for rate, least in thresholds.items() if least is not None},
    )
