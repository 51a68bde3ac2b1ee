"""Confidence intervals of shares of correct answers, and of the difference of two models on the same questions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """A difference and its confidence interval."""

    difference: float
    low: float
    high: float


def wilson(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share, 95 % by default (Wilson 1927): also near 0 and 1 it stays between them."""
    share, half = successes / count, z * z / (2 * count)
    spread = z * math.sqrt((share * (1 - share) + half / 2) / count)
    return (share + half - spread) / (1 + 2 * half), (share + half + spread) / (1 + 2 * half)


def guessing(share: float, count: int) -> float:
    """The share of correct answers up to which a model may be guessing.

    That is the 97.5 % quantile of the share that guessing gets right (normal approximation), and at the least a tenth
    of the way from guessing to no error.

    Args:
        share: probability that a guess is right.
        count: number of answers.
    """
    return max(share + 1.96 * math.sqrt(share * (1 - share) / count), share + (1 - share) / 10)


def paired_bootstrap(
    correct: Bool, reference: Bool, *, samples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Change of accuracy of a model against a reference on the same pairs, with its percentile interval.

    Pairs are sampled with replacement and both models evaluated on the same sample, so that what is hard for both
    cancels (Efron and Tibshirani 1993, chapter 13).
    """
    if len(correct) != len(reference):
        raise ValueError(f"the same pairs are needed: {len(correct)} against {len(reference)}")
    delta = correct.astype(np.int8) - reference.astype(np.int8)
    # The sum of a draw depends only on how often +1 and -1 come up: a multinomial draw, not an index matrix.
    shares = [float(np.mean(delta == value)) for value in (1, -1, 0)]
    draws = np.random.default_rng(seed).multinomial(len(delta), shares, size=samples)
    changes = (draws[:, 0] - draws[:, 1]) / len(delta)
    tail = (1 - confidence) / 2
    low, high = np.quantile(changes, [tail, 1 - tail])
    return Interval(float(delta.mean()), float(low), float(high))
