"""What a look at a server needs to know; apart from `update`, so that the camera imports nothing of TUF."""

from __future__ import annotations

from dataclasses import dataclass

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER


@dataclass(frozen=True)
class Settings:
    """Where a device looks, and what it is.

    Attributes:
        url: Address of the repository.
        root: File of the root that the device came with.
        folder: Folder of the device's slots and state.
        device: Name of the device, which percentages of a ring are drawn by.
        ring: Ring of the device, `canary` or `stable`.
        limit: Most bytes a second that are downloaded; None for no limit.
        gallery, key: Files of gallery and key; None for the user's own.
        detector, recognizer: Folders of the bundles that came with the software.
    """

    url: str
    root: str
    folder: str
    device: str
    ring: str = "stable"
    limit: int | None = None
    gallery: str | None = None
    key: str | None = None
    detector: str = str(DETECTOR)
    recognizer: str = str(RECOGNIZER)
