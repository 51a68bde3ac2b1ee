"""A gallery seen through a recognizer that it was not made with: by the crops that were kept, without changing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.gallery.crops import decode_crops
from slimcam.deploy.gallery.encryption import default_gallery, default_key
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.people import Float, Person, Snapshot, name_list


def obstacle(path: str | None, key: str | None, model: str) -> str:
    """Why a gallery cannot serve another recognizer, and what to do; empty if it can, or if there is none.

    Every template needs its crop: one without would be lost, and lost still when the former recognizer comes back.

    Args:
        path, key: Files of gallery and key; None for the user's own.
        model: SHA-256 of the recognizer's model file.

    Raises:
        ValueError, OSError: the gallery cannot be read.
    """
    file = Path(path) if path else default_gallery()
    if not file.exists():
        return ""
    with Gallery(file, key=Path(key) if key else default_key()) as gallery:
        if gallery.made_with() in (None, model):
            return ""
        lacking = without_crops(gallery)
    if not lacking:
        return ""
    return (
        f"no crops were kept of views of {name_list(lacking)}; slimcam-faces forget them, and enroll them again with "
        "keep_crops=true"
    )


def without_crops(gallery: Gallery) -> list[Person]:
    """Those who have a template without a crop."""
    return [one for one in gallery.people() if any(view.crop is None for view in gallery.templates(one.id))]


def snapshot_from_crops(
    gallery: Gallery, embed: Callable[[NDArray[np.uint8]], Float], size: int, now: float
) -> Snapshot:
    """Who is known, with the embeddings of another recognizer.

    Args:
        embed: Gives `(N, E)` float32, L2-normalized, for `(N, 112, 112, 3)` uint8 RGB.
        size: Length of an embedding, E.
        now: Unix time; who has expired then is left out.

    Raises:
        ValueError: somebody has a template without a crop, or a row is damaged.
    """
    if lacking := without_crops(gallery):
        raise ValueError(f"no crops were kept of views of {name_list(lacking)}")
    version = gallery.version()
    people = [one for one in gallery.people() if one.expires is None or one.expires > now]
    found = [embed(decode_crops(gallery.templates(one.id))) for one in people]
    return Snapshot(
        version=version,
        people=tuple(people),
        embeddings=np.concatenate(found) if found else np.empty((0, size), np.float32),
        owners=np.repeat(np.arange(len(people)), [len(views) for views in found]).astype(np.int64),
    )
