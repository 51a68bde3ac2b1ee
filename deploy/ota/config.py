"""How a device is updated; apart from what does it, so that a camera without updates imports nothing of it."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from slimcam.deploy.gallery.encryption import default_gallery
from slimcam.deploy.ota.release import RINGS


@dataclass
class OtaConfig:
    """Updates of the models, see docs/ota.md.

    Attributes:
        url: Address of the repository that releases come from; `None` is no look at a server.
        root: File of the root metadata that is trusted, brought on a way that is trusted.
        folder: Folder of this device's slots and state; `None` is `~/.local/share/slimcam/ota` where a url is given.
            Given without a url, releases are used that `slimcam-ota update` put there.
        device: Name of this device, which percentages of a ring are drawn by; `None` is the machine's.
        ring: Ring of this device, `canary` or `stable`.
        every: Seconds between two looks at the server.
        limit: Most bytes a second that are downloaded; `None` is no limit.
        window: Frames in which a release must prove itself.
    """

    url: str | None = None
    root: str | None = None
    folder: str | None = None
    device: str | None = None
    ring: str = "stable"
    every: float = 3600.0
    limit: int | None = None
    window: int = 750

    def __post_init__(self) -> None:
        if self.url is not None and not re.match(r"https?://[^/]", self.url):
            raise ValueError(f"ota.url is the address of a repository, http://... or https://...; got {self.url!r}")
        if self.url is not None and self.root is None:
            raise ValueError("ota.root is missing: the file with the root metadata that releases are trusted by")
        if self.root is not None and not Path(self.root).is_file():
            raise FileNotFoundError(f"{self.root}: there is no such file of root metadata (ota.root)")
        if self.ring not in RINGS:
            raise ValueError(f"ota.ring is {' or '.join(RINGS)}; got {self.ring!r}")
        if not self.every >= 1:
            raise ValueError(f"ota.every is 1 second or more; got {self.every}")
        if self.limit is not None and self.limit < 1024:
            raise ValueError(f"ota.limit is 1024 bytes a second or more, or null; got {self.limit}")
        if self.window < 100:
            raise ValueError(f"ota.window is 100 frames or more; got {self.window}")

    @property
    def on(self) -> bool:
        """Whether releases are used."""
        return self.url is not None or self.folder is not None

    @property
    def path(self) -> Path:
        """The folder of slots and state."""
        return Path(self.folder) if self.folder else default_gallery().parent / "ota"

    @property
    def name(self) -> str:
        """The name of the device."""
        return self.device or os.environ.get("HOSTNAME") or socket.gethostname()
