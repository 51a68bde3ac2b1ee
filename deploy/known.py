"""The gallery as a running camera uses it: a matcher that keeps up with it, and people enrolled from views."""

from __future__ import annotations

import time
from pathlib import Path

from deploy.enrol import template
from deploy.gallery import Gallery
from deploy.live import View
from deploy.match import Matcher, threshold
from deploy.people import Person, Snapshot, clean_name, name_list
from deploy.runtime import Recognizer
from deploy.vault import default_gallery

CHECK_SECONDS = 1.0
"""So often is asked whether somebody, another process perhaps, changed the gallery."""


class Known:
    """Who is known, from a gallery that need not be there yet.

    Args:
        recognizer: whose embeddings it holds.
        path, key: files; `None` for the user's own.
        far: share of strangers' pairs that may be taken for one person.
        margin: how much better than the next person somebody must fit.

    Attributes:
        threshold: the cosine of that rate.

    Raises:
        ValueError: the bundle knows no such rate, or the gallery cannot be opened with this recognizer and key.
        OSError: gallery or key cannot be read.
    """

    def __init__(self, recognizer: Recognizer, path: str | None, key: str | None, far: float, margin: float) -> None:
        self._recognizer, self._margin = recognizer, margin
        self._path = Path(path) if path else default_gallery()
        self._key = Path(key) if key else None
        self.threshold = threshold(recognizer.bundle, far)
        self._gallery: Gallery | None = None
        self._version: int | None = None
        self._asked = -CHECK_SECONDS
        # Of the threads that enrol: interpreters cannot be shared, and this one's is at work.
        self._enroller: Recognizer | None = None

    def open(self) -> Gallery:
        """The gallery, made if there is none; whoever asks closes it."""
        return Gallery(self._path, self._recognizer.bundle.sha256, self._recognizer.embedding_size, self._key)

    def close(self) -> None:
        if self._gallery is not None:
            self._gallery.close()

    def snapshot(self) -> Snapshot | None:
        """Who is known now; `None` where there is no gallery."""
        self.changed()
        return None if self._gallery is None else self._gallery.snapshot()

    def matcher(self) -> Matcher | None:
        """Finds people among those who are known now; `None` where there is no gallery."""
        self.changed()
        return self._matcher()

    def changed(self) -> Matcher | None:
        """A matcher for the gallery as it has become; `None` where it has not changed, or it is not time to ask."""
        now = time.monotonic()
        if now - self._asked < CHECK_SECONDS:
            return None
        self._asked = now
        if self._gallery is None:
            if not self._path.exists():
                return None
            self._gallery = self.open()
        version = self._gallery.version()
        if version == self._version:
            return None
        self._version = version
        return self._matcher()

    def enrol(self, view: View, track: int, name: str, consent: str) -> Person:
        """Enrols the face of a track as it is seen in a view; somebody of that name gets one more template.

        Raises:
            ValueError: the face is not in the view or not fit, the name is none, or several people have it.
        """
        sighting = next((each for each in view.sightings if each.track == track), None)
        if sighting is None:
            raise ValueError("this face is not in the picture any more; choose it again")
        if sighting.flaws:
            raise ValueError(f"this view of the face is not fit ({', '.join(sighting.flaws)}); choose a better one")
        name = clean_name(name)
        if self._enroller is None:
            self._enroller = Recognizer(self._recognizer.bundle, check=False)
        found = template(view.frame.image, sighting.points, self._enroller, "camera", keep=False)
        with self.open() as gallery:
            same = [person for person in gallery.people() if person.name == name]
            if len(same) > 1:
                raise ValueError(f"several people have this name: {name_list(same)}; use slimcam-faces with person=ID")
            present = same[0] if same else None
            return gallery.enrol(
                name,
                [found],
                consent=consent,
                expires=present.expires if present else None,
                person=present.id if present else None,
            )

    def _matcher(self) -> Matcher | None:
        if self._gallery is None:
            return None
        return Matcher(self._gallery.snapshot(), self.threshold, self._margin)
