"""Findings for the owner of a gallery: the same person twice, people too alike, expired ones, unfit templates."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from slimcam.deploy.gallery.crops import decode_crops
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.people import NO_CONSENT, Person, Snapshot, name_list
from slimcam.deploy.vision.align import TEMPLATE
from slimcam.deploy.vision.quality import QualityConfig, quality_issues

SAME_PICTURE = 0.9999
"""Cosine from which on two templates are of one picture."""


def review(gallery: Gallery, threshold: float, impostor: float, quality: QualityConfig) -> list[str]:
    """One line for each finding; none where all is well.

    Args:
        gallery: Gallery to look through.
        threshold: Least cosine at which two faces are taken for one person's.
        impostor: Cosine that impostor pairs often reach: a template less like all others of its person is an outlier.
        quality: Limits that kept crops are checked against.

    Raises:
        ValueError, OSError: the gallery cannot be read.
    """
    people, snapshot = gallery.people(), gallery.snapshot()
    found = [
        f"{name_list([one])} has expired: slimcam-faces forget {one.id}"
        for one in people
        if one.expires is not None and one.expires <= time.time()
    ]
    found += [f"{name_list([one])} has no consent note" for one in people if one.consent == NO_CONSENT]
    found += resemblances(snapshot, threshold, impostor)
    for one in people:
        found += unfit_templates(gallery, one, quality)
    return found


def resemblances(snapshot: Snapshot, threshold: float, impostor: float) -> list[str]:
    """Pairs of people who would be taken for each other, pictures enrolled twice, and templates unlike their person's
    others."""
    found = []
    people, bounds = snapshot.people, np.searchsorted(snapshot.owners, np.arange(len(snapshot.people) + 1))
    for i, person in enumerate(people):
        start, stop = bounds[i], bounds[i + 1]
        own = snapshot.embeddings[start:stop]
        if start == stop:
            continue
        # Everybody against those who come after them, so that each pair is reported once.
        later = (snapshot.embeddings[stop:] @ own.T).max(axis=1, initial=-1.0)
        for j in range(i + 1, len(people)):
            score = later[bounds[j] - stop : bounds[j + 1] - stop].max(initial=-1.0)
            if score >= threshold:
                found.append(f"{name_list([person, people[j]])} look alike, cosine {score:.2f}: the same person twice?")
        likeness = own @ own.T - 2 * np.eye(len(own), dtype=np.float32)
        for row in range(len(own)):
            if (likeness[row, :row] >= SAME_PICTURE).any():
                found.append(f"{name_list([person])}: template {row + 1} is of the same picture as one before")
            elif len(own) > 1 and likeness[row].max() < impostor:
                found.append(
                    f"{name_list([person])}: template {row + 1} is unlike the others, cosine at most "
                    f"{likeness[row].max():.2f}: somebody else?"
                )
    return found


def unfit_templates(gallery: Gallery, person: Person, quality: QualityConfig) -> Iterator[str]:
    """Templates whose kept crops show faces that are not fit to be recognized by."""
    for one in gallery.templates(person.id):
        for crop in decode_crops([one]):
            if words := quality_issues(crop, TEMPLATE, quality):
                yield f"{name_list([person])}: the face of {one.source} is {', '.join(words)}"
