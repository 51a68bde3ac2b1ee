"""`slimcam-faces enroll NAME photo.jpg`: who is known to the camera."""

from __future__ import annotations

import getpass
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from slimcam.deploy.apps.faces_arguments import overrides
from slimcam.deploy.camera.sources import SourceConfig, open_source
from slimcam.deploy.camera.sources.source import first_seconds
from slimcam.deploy.common import application
from slimcam.deploy.common.console import show
from slimcam.deploy.common.renamed_options import below
from slimcam.deploy.gallery import enrollment
from slimcam.deploy.gallery.encryption import default_gallery, default_key
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.match import threshold
from slimcam.deploy.gallery.people import NO_CONSENT, Person, clean_name, name_list
from slimcam.deploy.gallery.review import review
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER, load_bundle
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.vision import quality
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.quality import QualityConfig

PASSPHRASE = "SLIMCAM_PASSPHRASE"
"""The environment variable that an archive's passphrase is taken from; it is asked for where there is none."""


@dataclass
class FacesConfig:
    """The application that keeps the gallery.

    Attributes:
        command: First word of the command line, see `slimcam.deploy.apps.faces_arguments.ARGUMENTS`.
        name: Name or id of a person; the second word.
        new: Name that a person gets.
        into: Name or id of the person that another one is merged into.
        template: Number of a template, from 1, as `check` tells it.
        day: Day from which on a person is not recognized any more, 2027-01-01, or `never`.
        file: Archive to export to or import from; the second word.
        pictures: Files and folders with pictures of the person; the other words.
        source: Camera or video to enroll from instead, see `slimcam.deploy.camera.sources`.
        capture: Options of the source.
        person: Id of a person to add templates to; `new` for another person of a name that is there.
        consent: Note on who agreed, when, to what.
        expires: Day from which on the person is not recognized any more, 2027-01-01.
        keep_crops: Whether aligned faces are kept too, so that `re-enroll` can serve another recognizer.
        gallery, key: Files of gallery and key; null for the user's own.
        recognizer: Folder of a bundle; null for the one that slimcam comes with.
        detector: Folder of a bundle, or YuNet's .onnx file; null for the one that slimcam comes with.
        far: False accept rate (FAR) of the threshold for warnings; one that the bundle was measured at.
        quality: Limits of the views that people are enrolled with.
    """

    command: str | None = None
    name: str | None = None
    new: str | None = None
    into: str | None = None
    template: str | None = None
    day: str | None = None
    file: str | None = None
    pictures: list[str] = field(default_factory=list)
    source: str | None = None
    capture: SourceConfig = field(default_factory=SourceConfig)
    person: str | None = None
    consent: str | None = None
    expires: str | None = None
    keep_crops: bool = False
    gallery: str | None = None
    key: str | None = None
    recognizer: str | None = None
    detector: str | None = None
    far: float = 0.001
    quality: QualityConfig = field(default_factory=QualityConfig)


ConfigStore.instance().store(group="schema", name="slimcam_faces", node=FacesConfig)


def main() -> None:
    """The console script."""
    application.run(
        _faces,
        program="slimcam-faces",
        config_name="slimcam_faces",
        overrides=overrides,
        renamed=below("quality", quality.RENAMED_OPTIONS),
    )


def _faces(composed: DictConfig) -> None:
    config: Any = OmegaConf.to_object(composed)
    if config.command is None:
        raise ValueError(f"what is to be done? slimcam-faces {', '.join(COMMANDS)}; slimcam-faces --help shows more")
    COMMANDS[config.command](config)


def _enroll(config: FacesConfig) -> None:
    name, expires = clean_name(config.name or ""), config.expires and _moment(config.expires)
    if bool(config.pictures) == (config.source is not None):
        raise ValueError("give pictures or folders to enroll from, or source=0 for a camera")
    recognizer = Recognizer(config.recognizer or RECOGNIZER)
    alike = threshold(recognizer.bundle, config.far)
    with _open(config, recognizer.bundle.sha256, recognizer.embedding_size) as gallery:
        present = _target(gallery.people(), name, config.person)
        notes: list[str] = []
        detector = open_detector(config.detector or DETECTOR)
        if config.source is not None:
            with open_source(config.source, config.capture) as source:
                show(f"looking for {enrollment.VIEWS_SECONDS:.0f} s")
                templates, left_out = enrollment.watch(
                    first_seconds(source, enrollment.VIEWS_SECONDS),
                    enrollment.printable_note(source.name),
                    detector,
                    recognizer,
                    config.quality,
                    alike,
                    config.keep_crops,
                )
        else:
            images = enrollment.pictures([Path(picture) for picture in config.pictures], notes)
            try:
                templates, left_out = enrollment.templates(
                    images, detector, recognizer, config.quality, config.keep_crops
                )
            except ValueError as error:
                raise ValueError("; ".join([str(error), *notes])) from error
        notes = [f"left out: {note}" for note in notes + left_out]
        alikes = enrollment.alike_people(templates, gallery.snapshot(), alike, present.id if present else None)
        person = gallery.enroll(
            name,
            templates,
            consent=config.consent or (present.consent if present else NO_CONSENT),
            expires=expires or (present.expires if present else None),
            person=present.id if present else None,
        )
    for note in notes:
        show(note)
    for other, score in alikes:
        show(
            f"looks like {name_list([other])}, cosine {score:.2f}: is it the same person? "
            f"slimcam-faces merge {person.id} {other.id} makes them one"
        )
    show(f"enrolled {name_list([person])}: {len(templates)} templates more, {person.templates} in all")


def _list(config: FacesConfig) -> None:
    with _open(config) as gallery:
        people = gallery.people()
    rows = [("id", "name", "templates", "enrolled", "expires", "consent")]
    rows += [
        (one.id, one.name, str(one.templates), _day(one.created), _day(one.expires), one.consent) for one in people
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _forget(config: FacesConfig) -> None:
    name = config.name or ""
    with _open(config) as gallery:
        # By its id a person can be forgotten though a row is damaged.
        if not re.fullmatch("[0-9a-f]{32}", name):
            named = [one for one in gallery.people() if one.name == clean_name(name)]
            if len(named) != 1:
                raise ValueError(
                    f"there are several of this name, give an id: {name_list(named)}"
                    if named
                    else f"nobody in the gallery has the name {name!r}; slimcam-faces list shows who is there"
                )
            name = named[0].id
        gallery.forget(name)
    show(f"forgot {name}")


def _rename(config: FacesConfig) -> None:
    with _open(config) as gallery:
        before = _person(gallery, config.name or "")
        show(f"{before.name} is {name_list([gallery.rename(before.id, config.new or '')])} now")


def _merge(config: FacesConfig) -> None:
    with _open(config) as gallery:
        person, into = _person(gallery, config.name or ""), _person(gallery, config.into or "")
        merged = gallery.merge(person.id, into.id)
    show(f"merged {name_list([person])} into {name_list([merged])}, who has {merged.templates} templates now")


def _remove_template(config: FacesConfig) -> None:
    if not re.fullmatch("[0-9]{1,6}", config.template or ""):
        raise ValueError(f"template is a number such as 3, as slimcam-faces check tells it; got {config.template!r}")
    with _open(config) as gallery:
        person = gallery.remove_template(_person(gallery, config.name or "").id, int(config.template or ""))
    show(f"{name_list([person])} has {person.templates} templates left")


def _expire(config: FacesConfig) -> None:
    day = config.day or ""
    with _open(config) as gallery:
        person = gallery.expire(_person(gallery, config.name or "").id, None if day == "never" else _moment(day))
    show(f"{name_list([person])} expires: {_day(person.expires)}")


def _person(gallery: Gallery, name: str) -> Person:
    """The person of a name or an id."""
    people = gallery.people()
    named = [one for one in people if one.id == name] or [one for one in people if one.name == clean_name(name)]
    if len(named) != 1:
        raise ValueError(
            f"there are several of this name, give an id: {name_list(named)}"
            if named
            else f"nobody in the gallery has the name {name!r}; slimcam-faces list shows who is there"
        )
    return named[0]


def _export(config: FacesConfig) -> None:
    with _open(config) as gallery:
        people = gallery.export(Path(config.file or ""), _passphrase(twice=True))
    show(f"exported {len(people)} people to {config.file}")


def _import(config: FacesConfig) -> None:
    passphrase = _passphrase(twice=False)
    with _open(config) as gallery:
        people = gallery.import_(Path(config.file or ""), passphrase)
    show(f"imported {len(people)} people: {name_list(people)}")


def _check(config: FacesConfig) -> None:
    bundle = load_bundle(config.recognizer or RECOGNIZER)
    with _open(config, bundle.sha256, math.prod(bundle.golden_output.shape[1:])) as gallery:
        alike = threshold(bundle, config.far)
        findings = review(gallery, alike, min(bundle.thresholds.values()), config.quality)
    for finding in findings:
        show(finding)
    if findings:
        raise ValueError(f"{len(findings)} finding{'s' * (len(findings) > 1)}")
    show("nothing found")


def _re_enroll(config: FacesConfig) -> None:
    recognizer = Recognizer(config.recognizer or RECOGNIZER)
    with _open(config) as gallery:
        dropped = gallery.re_enroll(recognizer.embed, recognizer.bundle.sha256)
        people = gallery.people()
    lost = f"; {dropped} templates without a crop were dropped" if dropped else ""
    show(f"re-enrolled {len(people)} people, {sum(one.templates for one in people)} templates{lost}")


def _audit(config: FacesConfig) -> None:
    with _open(config) as gallery:
        for one in gallery.audit():
            at = datetime.fromtimestamp(one.at).astimezone().isoformat(" ", "seconds")
            show(f"{at}  {one.actor}  {one.action}  {one.person}  {one.note}".rstrip())


COMMANDS: dict[str, Callable[[FacesConfig], None]] = {
    "enroll": _enroll,
    "list": _list,
    "forget": _forget,
    "rename": _rename,
    "merge": _merge,
    "remove-template": _remove_template,
    "expire": _expire,
    "export": _export,
    "import": _import,
    "check": _check,
    "re-enroll": _re_enroll,
    "audit": _audit,
}


def _open(config: FacesConfig, model: str | None = None, size: int | None = None) -> Gallery:
    path = Path(config.gallery or default_gallery())
    if config.command not in ("enroll", "import") and not path.exists():
        raise FileNotFoundError(f"{path}: there is no gallery; slimcam-faces enroll NAME PICTURE makes one")
    return Gallery(path, model, size, Path(config.key or default_key()))


def _target(people: list[Person], name: str, person: str | None) -> Person | None:
    """Who gets the templates: one who is there, or `None` for a new person."""
    named = [one for one in people if one.name == name]
    if person == "new" or (person is None and not named):
        return None
    if person is None:
        raise ValueError(
            f"there is {name_list(named)} already: person=ID adds pictures, person=new enrolls another one of this name"
        )
    for one in people:
        if one.id == person:
            return one
    raise ValueError(f"nobody in the gallery has the id {person!r}; slimcam-faces list shows who is there")


def _moment(day: str) -> float:
    try:
        return datetime.combine(date.fromisoformat(day), datetime.min.time()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expires is a day such as 2027-01-01; got {day!r}") from error


def _day(moment: float | None) -> str:
    return "never" if moment is None else datetime.fromtimestamp(moment).date().isoformat()


def _passphrase(twice: bool) -> str:
    found = os.environ.get(PASSPHRASE)
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise ValueError(f"which passphrase? put it into the environment variable {PASSPHRASE}")
    found = getpass.getpass("passphrase of the archive: ")
    if twice and getpass.getpass("once more: ") != found:
        raise ValueError("the two passphrases differ; nothing was exported")
    return found


if __name__ == "__main__":
    main()
