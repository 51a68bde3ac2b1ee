"""The gallery as a running camera uses it: a matcher that keeps up with it, and people enrolled from views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.gallery import database
from slimcam.deploy.gallery.encryption import default_gallery
from slimcam.deploy.gallery.enrollment import alike_people, template
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.match import Matcher, threshold
from slimcam.deploy.gallery.other_recognizer import obstacle, snapshot_from_crops
from slimcam.deploy.gallery.people import Person, Snapshot, Template, clean_name, name_list
from slimcam.deploy.gallery.unknown_faces import UnknownFace
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import View
from slimcam.deploy.vision.quality import QualityConfig, quality_issues

PATIENCE = 0.1
"""Seconds that frames wait for somebody who changes the gallery, before the next look at it."""

CHECK_SECONDS = 1.0
"""So often is asked whether somebody, another process perhaps, changed the gallery."""


Seen = tuple[int, int, int]
"""Device, inode and version of a gallery."""


@dataclass(frozen=True)
class Prepared:
    """A recognizer, and who is known to it.

    Attributes:
        recognizer: Recognizer that the matcher's embeddings are of.
        threshold: Least cosine of a match.
        matcher: Finds people in the gallery; `None` where there is no gallery.
        seen: Gallery and its version; `None` where there is no gallery.
    """

    recognizer: Recognizer
    threshold: float
    matcher: Matcher | None
    seen: Seen | None


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
        follows: Whether the gallery may be another recognizer's, as it is while a release is tried: then the crops that
            were kept serve.

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
        follows: bool = False,
    ) -> None:
        self._recognizer, self._far, self._margin, self._quality = recognizer, far, margin, quality
        self._follows = follows
        self._path = Path(path) if path else default_gallery()
        self._key = Path(key) if key else None
        self.threshold = threshold(recognizer.bundle, far)
        self.matcher: Matcher | None = None
        self._gallery: Gallery | None = None
        self._seen: Seen | None = None
        self._asked = time.monotonic()
        self._trouble = ""
        # Of the thread that enrolls: interpreters cannot be shared, and the camera's is at work.
        self._enroller: Recognizer | None = None
        self._renew()

    def open(self) -> Gallery | None:
        """The gallery, `None` if there is none, to look through and to forget in; whoever asks closes it."""
        if not self._path.exists():
            return None
        return self._make_any() if self._follows else self._make()

    def prepare(self, recognizer: Recognizer) -> Prepared:
        """Who is known to another recognizer, by the crops that were kept; the gallery stays as it is. In any thread.

        Raises:
            ValueError: a template has no crop, or the bundle does not know the rate of false accepts.
            OSError: the gallery cannot be read.
        """
        cosine = threshold(recognizer.bundle, self._far)
        if not self._path.exists():
            return Prepared(recognizer, cosine, None, None)
        stat = self._path.stat()
        with self._make_any() as gallery:
            seen = stat.st_dev, stat.st_ino, gallery.version()
            return Prepared(recognizer, cosine, Matcher(_snapshot(gallery, recognizer), cosine, self._margin), seen)

    def adopted(self) -> Prepared:
        """What is in use, to go back to."""
        return Prepared(self._recognizer, self.threshold, self.matcher, self._seen)

    def adopt(self, prepared: Prepared) -> None:
        """Goes on with another recognizer, whatever the gallery was made with; in the thread of `changed`."""
        self._follows = True
        self._recognizer, self.threshold = prepared.recognizer, prepared.threshold
        self.matcher, self._seen = prepared.matcher, prepared.seen
        self.close()

    def follow(self, recognizer: Recognizer) -> None:
        """Recomputes the templates for a recognizer, where the gallery has those of another one. In any thread.

        Args:
            recognizer: Recognizer that no frames go through meanwhile, for an interpreter cannot be shared.

        Raises:
            ValueError: a template has no crop; nothing was changed.
            RuntimeError: another process changed the gallery meanwhile; nothing was changed.
            OSError: it cannot be read or written.
        """
        sha256 = recognizer.bundle.sha256
        if why := obstacle(str(self._path), str(self._key) if self._key else None, sha256):
            raise ValueError(why)
        if self._path.exists():
            with self._make_any() as gallery:
                if gallery.made_with() not in (None, sha256):
                    gallery.re_enroll(recognizer.embed, sha256)

    def close(self) -> None:
        if self._gallery is not None:
            self._gallery.close()
            self._gallery = None

    def snapshot(self) -> Snapshot | None:
        """Who is known now; `None` where there is no gallery."""
        return None if self._gallery is None else self._gallery.snapshot()

    def changed(self) -> bool:
        """Whether `matcher` is another one than before; looks once a second at the most.

        A gallery that cannot be read is reported once, and those who were known stay so.
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
        # One recognizer throughout, though the camera may change it meanwhile.
        recognizer = self._recognizer
        if self._follows and self._is_foreign():
            raise ValueError("a new recognizer is being tried; enroll again when it is kept, in a minute")
        if self._enroller is None or self._enroller.bundle is not recognizer.bundle:
            self._enroller = Recognizer(recognizer.bundle, check=False)
        added = template(view.frame.image, sighting.points, self._enroller, "camera", keep=False)
        return self._add([added], name, consent, person, recognizer)

    def enroll_kept(self, faces: Sequence[UnknownFace], name: str, consent: str, person: str = "") -> Person:
        """Enrolls a person from faces that were kept as unknown; errors are those of `enroll`."""
        added = [
            Template(face.embedding, None, f"camera, {datetime.fromtimestamp(face.at):%Y-%m-%d %H:%M}")
            for face in faces
        ]
        return self._add(added, clean_name(name), consent, person)

    def _add(
        self, added: Sequence[Template], name: str, consent: str, person: str, recognizer: Recognizer | None = None
    ) -> Person:
        with self._make(recognizer=recognizer) as gallery:
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

    def _make(self, patience: float = database.PATIENCE, recognizer: Recognizer | None = None) -> Gallery:
        used = recognizer or self._recognizer
        return Gallery(self._path, used.bundle.sha256, used.embedding_size, self._key, patience=patience)

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
            self._gallery = self._make_any(PATIENCE) if self._follows else self._make(PATIENCE)
        seen = stat.st_dev, stat.st_ino, self._gallery.version()
        if seen == self._seen:
            return False
        found = _snapshot(self._gallery, self._recognizer) if self._follows else self._gallery.snapshot()
        self.matcher, self._seen = Matcher(found, self.threshold, self._margin), seen
        return True

    def _make_any(self, patience: float = database.PATIENCE) -> Gallery:
        """The gallery, whichever recognizer it was made with."""
        return Gallery(self._path, key=self._key, patience=patience)

    def _is_foreign(self) -> bool:
        gallery = self.open()
        if gallery is None:
            return False
        with gallery:
            return gallery.made_with() not in (None, self._recognizer.bundle.sha256)


def _snapshot(gallery: Gallery, recognizer: Recognizer) -> Snapshot:
    if gallery.made_with() == recognizer.bundle.sha256:
        return gallery.snapshot()
    return snapshot_from_crops(gallery, recognizer.embed, recognizer.embedding_size, time.time())
