"""Unknown faces as the page shows and names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slimcam.deploy.camera.known_people import KnownPeople
from slimcam.deploy.camera.unknown_keeper import UnknownKeeper
from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.people import Person
from slimcam.deploy.gallery.unknown_faces import UnknownFace, grouped


@dataclass
class Naming:
    """What the page asks of the faces that were kept; in the thread of the gallery.

    Attributes:
        keeper: Keeps the faces.
        known: Whom they become.
    """

    keeper: UnknownKeeper
    known: KnownPeople

    def groups(self) -> list[dict[str, Any]]:
        """Faces by likeness, newest first: `faces` of each with `id` and `at`."""
        with self.keeper.lock:
            faces = self.keeper.faces.faces()
        groups = grouped(faces, self.known.threshold)
        return [{"faces": [{"id": face.id, "at": round(face.at, 3)} for face in group]} for group in groups]

    def picture(self, id: str) -> bytes:
        """The crop of a face as PNG.

        Raises:
            ValueError: it is not kept any more.
        """
        return encode_crop(self._take([id])[0].crop)

    def enroll(self, ids: Sequence[str], name: str, consent: str, person: str) -> Person:
        """Makes a person of faces, or adds them to one, and keeps them no longer.

        Raises: as `KnownPeople.enroll`.
        """
        enrolled = self.known.enroll_kept(self._take(ids), name, consent, person)
        self.remove(ids)
        return enrolled

    def remove(self, ids: Sequence[str]) -> None:
        with self.keeper.lock:
            self.keeper.faces.remove(ids)

    def _take(self, ids: Sequence[str]) -> list[UnknownFace]:
        with self.keeper.lock:
            return self.keeper.faces.take(ids)
