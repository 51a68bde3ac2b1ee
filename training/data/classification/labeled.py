"""What a source of images with classes gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slimcam.training.data.recognition.faces import FaceSet


@dataclass(frozen=True)
class ClassData:
    """Images with a class each; those of the same class share a label, and `identities` are the names of the classes.

    Attributes:
        train: Images to learn from.
        test: Images to evaluate on.
        held_out: Images by which the best weights of a training are chosen, if any are.
        notes: One line for each thing the source skipped, for example an unreadable file.
    """

    train: FaceSet
    test: FaceSet
    held_out: FaceSet | None = None
    notes: Sequence[str] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the labels."""
        return self.train.identities
