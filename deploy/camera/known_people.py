"""The gallery as a running camera uses it: a matcher that keeps up with it, and people enrolled from views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from deploy.camera.outputs.output import tell
from deploy.gallery import database
from deploy.gallery.encryption import default_gallery
from deploy.gallery.enrollment import alike_people, template
from deploy.gallery.gallery import Gallery
from deploy.gallery.match import Matcher, threshold
from deploy.gallery.people import Person, Snapshot, Template, clean_name, name_list
from deploy.gallery.unknown_faces import UnknownFace
from deploy.inference.model import Recognizer
from deploy.types import View
from deploy.vision.quality import QualityConfig, quality_issues

PATIENCE = 0.1
"""Seconds that frames wait for somebody who changes the gallery, before the next look at it."""

CHECK_SECONDS = 1.0
"""So often is asked whether somebody, another process perhaps, changed the gallery."""


class LooksLike(ValueError):  # noqa: N818 - a question
    """A face that is to be enrolled looks like somebody who is there: is it the same person?

    Attributes:
        people: Whom it looks like, and the best cosine with each.
    """

    def __init__(self, people: Sequence[tuple[Person, float]]) -> None:
        names = ", ".join(f"{one.name} ({score:.2f})" for one, score in people)
        super().__init__(f"looks like {names}: is it the same person?")
        self.people = people


class KnownPeople:
    """Who is known, from a gallery that need not be there yet, and may be replaced.

    Args:
        recognizer: Recognizer of the embeddings.
        path, key: Files of gallery and key; `None` for the user's own.
        far: False accept rate (FAR) of the threshold: share of impostor pairs that are taken for one person.
        margin: Least difference of cosines between the best and the next person.
        quality: Limits of the views that people are enrolled with.

    Attributes:
        threshold: Least cosine of a match, at that rate.
        matcher: Finds people in the gallery; `None` where there is no gallery.

    Raises:
        ValueError: the bundle knows no such rate, or the gallery cannot be opened with this recognizer and key.
        OSError: gallery or key cannot be read.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        path: str | None,
        key: str | None,
        far: float,
        margin: float,
        quality: QualityConfig,
    ) -> None:
        self._recognizer, self._margin, self._quality = recognizer, margin, quality
        self._path = Path(path) if path else default_gallery()
        self._key = Path(key) if key else None
        self.threshold = threshold(recognizer.bundle, far)
        self.matcher: Matcher | None = None
        self._gallery: Gallery | None = None
        self._seen: tuple[int, int, int] | None = None
        self._asked = time.monotonic()
        self._trouble = ""
        # Of the thread that enrolls: interpreters cannot be shared, and the camera's is at work.
        self._enroller: Recognizer | None = None
        self._renew()

    def open(self) -> Gallery | None:
        """The gallery, `None` if there is none; whoever asks closes it."""
        return self._make() if self._path.exists() else None

    def close(self) -> None:
        if self._gallery is not None:
            self._gallery.close()
            self._gallery = None

    def snapshot(self) -> Snapshot | None:
        """Who is known now; `None` where there is no gallery."""
        return None if self._gallery is None else self._gallery.snapshot()

    def changed(self) -> bool:
        """Whether `matcher` is another one than before; looks once a second at the most.

        A gallery that cannot be read is told of once, and those who were known stay so.
        """
        now = time.monotonic()
        if now - self._asked < CHECK_SECONDS:
            return False
        self._asked = now
        try:
            changed = self._renew()
        except (OSError, ValueError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                tell(f"the gallery stays as it was: {error}")
            return False
        self._trouble = ""
        return changed

    def enroll(self, view: View, track: int, name: str, consent: str, person: str = "") -> Person:
        """Enrolls the face of a track as it is seen in a view.

        Args:
            person: Id of who gets one more template, or `new` for another person; if empty, somebody of that name does,
                and whoever looks like others is asked for first.

        Raises:
            LooksLike: others look like this face, and `person` does not say whether it is one of them.
            ValueError: the face is not in the view or not fit, the name is none, several people have it, or who has it
                has expired.
        """
        sighting = next((each for each in view.sightings if each.track == track), None)
        if sighting is None:
            raise ValueError("this face is not in the picture any more; choose it again")
        if found := quality_issues(view.frame.image, sighting.points, self._quality):
            raise ValueError(f"this view of the face is not fit ({', '.join(found)}); choose a better one")
        name = clean_name(name)
        if self._enroller is None:
            self._enroller = Recognizer(self._recognizer.bundle, check=False)
        added = template(view.frame.image, sighting.points, self._enroller, "camera", keep=False)
        return self._add([added], name, consent, person)

    def enroll_kept(self, faces: Sequence[UnknownFace], name: str, consent: str, person: str = "") -> Person:
        """Enrolls a person from faces that were kept as unknown; errors are those of `enroll`."""
        added = [
            Template(face.embedding, None, f"camera, {datetime.fromtimestamp(face.at):%Y-%m-%d %H:%M}")
            for face in faces
        ]
        return self._add(added, clean_name(name), consent, person)

    def _add(self, added: Sequence[Template], name: str, consent: str, person: str) -> Person:
        with self._make() as gallery:
            people = gallery.people()
            present = self._present(people, name, person)
            if person == "":
                others = alike_people(added, gallery.snapshot(), self.threshold, present.id if present else None)
                if others:
                    raise LooksLike(others)
            if present and present.expires is not None and present.expires <= time.time():
                raise ValueError(
                    f"{present.name} has expired; forget them first, or use slimcam-faces with expires=DATE"
                )
            return gallery.enroll(
                present.name if present else name,
                added,
                consent=consent,
                expires=present.expires if present else None,
                person=present.id if present else None,
            )

    @staticmethod
    def _present(people: Sequence[Person], name: str, person: str) -> Person | None:
        if person == "new":
            return None
        if person:
            found = [one for one in people if one.id == person]
            if not found:
                raise ValueError("this person is not in the gallery any more")
            return found[0]
        same = [one for one in people if one.name == name]
        if len(same) > 1:
            raise ValueError(f"several people have this name: {name_list(same)}; use slimcam-faces with person=ID")
        return same[0] if same else None

    def _make(self, patience: float = database.PATIENCE) -> Gallery:
        bundle, size = self._recognizer.bundle, self._recognizer.embedding_size
        return Gallery(self._path, bundle.sha256, size, self._key, patience=patience)

    def _renew(self) -> bool:
        """Takes the gallery as it is now; whether it is another."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self.close()
            had, self.matcher, self._seen = self.matcher, None, None
            return had is not None
        if self._seen is None or self._seen[:2] != (stat.st_dev, stat.st_ino):
            self.close()
        if self._gallery is None:
            self._gallery = self._make(PATIENCE)
        seen = stat.st_dev, stat.st_ino, self._gallery.version()
        if seen == self._seen:
            return False
        self.matcher, self._seen = Matcher(self._gallery.snapshot(), self.threshold, self._margin), seen
        return True
