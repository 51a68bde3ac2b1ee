"""Keeps the best view of each track that was unknown, if the owner of the camera chose so."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.camera.track_identity import Embedding, TrackIdentity
from slimcam.deploy.common.messages import one_line
from slimcam.deploy.gallery.unknown_faces import UnknownFaces
from slimcam.deploy.types import Identity

PENDING = 32
"""Faces that wait for a slow disk; further ones are dropped."""


class NobodyKnown:
    """Matches where there is no gallery yet: everybody is unknown."""

    def match(self, embedding: Embedding) -> Identity:  # noqa: ARG002
        return Identity(None, None, -1.0, 0.0)


@dataclass
class UnknownConfig:
    """Whether faces that were seen as unknown are kept, encrypted, for their owner to name on the page.

    Attributes:
        keep: Whether to keep them. Pictures of people who never agreed are a matter of law in many places: think first.
        days: Days after which a face is deleted.
        limit: Most faces that are kept; the oldest ones make way.
        folder: Folder of the faces; null is `unknown` beside the gallery.
    """

    keep: bool = False
    days: float = 7.0
    limit: int = 200
    folder: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.days <= 366:
            raise ValueError(f"unknown.days is above 0, up to 366; got {self.days}")
        if not 1 <= self.limit <= 10_000:
            raise ValueError(f"unknown.limit is from 1 to 10,000; got {self.limit}")


class UnknownKeeper:
    """Takes the tracks that end, and writes the best views of the unknown ones in a thread of its own.

    Args:
        faces: Where they are kept.
    """

    def __init__(self, faces: UnknownFaces) -> None:
        self.faces = faces
        self.lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "unknown-faces")
        self._pending = 0
        self._told = False

    def ended(self, identity: TrackIdentity) -> None:
        """A track has ended. Never waits."""
        best = identity.views[0] if identity.views else None
        unknown = identity.reported is not None and not identity.reported.known
        if not unknown or best is None or best.crop is None or self._pending >= PENDING:
            return
        self._pending += 1
        self._thread.submit(self._keep, time.time(), best.embedding, best.crop)

    def close(self) -> None:
        """Waits until what is pending is on the disk."""
        self._thread.shutdown()

    def _keep(self, at: float, embedding: Embedding, crop: NDArray[np.uint8]) -> None:
        try:
            with self.lock:
                self.faces.keep(at, embedding, crop)
        except OSError as error:
            if not self._told:
                tell(f"an unknown face cannot be kept: {one_line(error)}")
            self._told = True
        finally:
            self._pending -= 1
