"""Scenes to train a face detector on and to evaluate it by: photos with landmarks, crops, or rendered faces.

The photos are those of a folder `detect` with lists of the landmarks of one face each; only where no other face was
found is a photo fully labeled. Without a folder, everything is made of the rendered faces of
`slimcam.training.data.recognition.synthetic`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY, file_content, in_key, key_material
from slimcam.deploy.vision.letterbox import letterbox as fit_frame
from slimcam.training.data.detection import photo_sets, rendered_faces
from slimcam.training.data.detection.compose import COMPOSE_VERSION, ComposeConfig, compose
from slimcam.training.data.detection.labels import EvaluationPhotograph, evaluation_photographs
from slimcam.training.data.detection.photo_scenes import (
    MOSAIC_SIDES,
    LabeledPhotograph,
    mosaic,
    photograph_scene,
)
from slimcam.training.data.detection.relabel import LABELS_VERSION
from slimcam.training.data.detection.rendered_faces import IMAGES_PER_PERSON, portrait, rendered_pictures
from slimcam.training.data.detection.scene import Picture, Scene, Sources
from slimcam.training.data.detection.single_faces import read_single_faces
from slimcam.training.data.images import existing

__all__ = ["Composed", "Scene", "SceneData", "Scenes", "ScenesConfig", "Sources", "compose", "fingerprint", "load"]

Float = NDArray[np.float32]

_LIST = ("train.csv", "test.csv")
_HELD_OUT_STREAM, _HELD_OUT_SCENES = 2, 256
_PHOTO_STREAM = 3


@dataclass
class ScenesConfig(ComposeConfig):
    """Scenes with faces.

    Attributes:
        root: Folder with `detect/{train,test}`, `detect/{train,test}.csv` and, for more faces, `lfw112`; `None` for
            synthetic faces.
        photos: Folders of real photographs to train on beside composed scenes, a set each: boxed by people (lists of
            Pascal VOC, YOLO or WIDER FACE) or not; see `slimcam.training.data.detection.photo_sets`. They need a
            labeler.
        backgrounds: Folders of photographs that show no faces, trained on as the others: animals, hands. Those in
            which the labeler is sure of a face are left out.
        photo_share: Share of the scenes that are photographs, where there are some.
        mosaics: Share of the scenes of photographs that show 4, 9 or 16 of them: more faces, and smaller ones.
        photos_left_out: List of photographs that must not be trained on: name of the set's folder, tab, path in it.
        test_photos: Folders of real photographs, boxed by people, to evaluate on; copies of them are not trained on.
        test_scenes: Number of composed scenes to evaluate on.
        labeler: YuNet's .onnx file, whose answers are averaged for the points of the pictures; see
            `slimcam.training.data.detection.relabel`. `None` takes the points in the lists.
        people: Number of synthetic people, beside those of a root; `None` takes 500 without a root and 0 with one.
        held_out: Share of the synthetic people who are only in scenes to evaluate on; a root has lists of its own.
        seed: Seed of all that is random.
    """

    task: ClassVar[str] = "detection"

    kind: str = "scenes"
    root: str | None = field(default=None, metadata=NOT_KEY)
    photos: list[str] = field(default_factory=list, metadata=NOT_KEY)
    backgrounds: list[str] = field(default_factory=list, metadata=NOT_KEY)
    photo_share: float = field(default=0.5, metadata=KEY_UNLESS_DEFAULT)
    mosaics: float = field(default=0.25, metadata=KEY_UNLESS_DEFAULT)
    photos_left_out: str | None = field(default=None, metadata=NOT_KEY)
    test_photos: list[str] = field(default_factory=list, metadata=NOT_KEY)
    labeler: str | None = field(default=None, metadata=in_key(name="labeller", material=file_content))
    test_scenes: int = 500
    people: int | None = None
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 2 if self.root is None else 0
        if min(self.test_scenes, self.seed + 1) < 1 or self.rendered_people < least:
            raise ValueError(
                f"scenes need 1 test scene, {least} people and a seed from 0 on at the least; "
                f"got {self.test_scenes}, {self.rendered_people} and {self.seed}"
            )
        if self.labeler is not None and self.root is None and not self.photos:
            raise ValueError("data.labeler is for photos: the points of rendered faces are known; set data.root")
        if self.photos and self.labeler is None:
            raise ValueError("data.photos need points: set data.labeler to YuNet's .onnx file")
        if self.backgrounds and not self.photos:
            raise ValueError("data.backgrounds are beside photographs with faces: set data.photos")
        if not 0 < self.photo_share < 1:
            raise ValueError(f"data.photo_share must lie between 0 and 1; got {self.photo_share}")
        if not 0 <= self.mosaics <= 1:
            raise ValueError(f"data.mosaics must not be below 0 or above 1; got {self.mosaics}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"data.held_out must lie between 0 and 1; got {self.held_out}")

    @property
    def rendered_people(self) -> int:
        """How many people are rendered."""
        if self.people is not None:
            return self.people
        return 500 if self.root is None else 0


class Scenes(Protocol):
    """A sequence of scenes, made when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Scene: ...


@dataclass(frozen=True)
class Composed:
    """Composed scenes; number `index` is a function of the seed and it alone.

    Attributes:
        stream: Other streams give other scenes.
        count: Number of scenes; training need not end there.
    """

    sources: Sources
    config: ScenesConfig
    stream: int = 0
    count: int = 2**31

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Scene:
        _within(index, self.count)
        return compose(self.sources, self.config, np.random.default_rng((self.config.seed, self.stream, index)))


@dataclass(frozen=True)
class Mixed:
    """Composed scenes, and real photographs between them; number `index` is a function of the seed and it alone."""

    composed: Composed
    photographs: Sequence[LabeledPhotograph]

    def __len__(self) -> int:
        return len(self.composed)

    def __getitem__(self, index: int, /) -> Scene:
        _within(index, len(self))
        config = self.composed.config
        rng = np.random.default_rng((config.seed, _PHOTO_STREAM, index))
        if rng.random() >= config.photo_share:
            return self.composed[index]
        across = int(rng.choice(MOSAIC_SIDES)) if rng.random() < config.mosaics else 1
        chosen = [self.photographs[int(index)] for index in rng.integers(len(self.photographs), size=across**2)]
        if across > 1:
            return mosaic(chosen, config.height, config.width, rng)
        return photograph_scene(chosen[0], config.height, config.width, rng)


@dataclass(frozen=True)
class Photos:
    """Photos as they are, fitted into frames of one size as the device does."""

    pictures: Sequence[Picture]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int, /) -> Scene:
        _within(index, len(self))
        picture = self.pictures[index]
        return fit(Scene(picture.image(), picture.points[None]), self.height, self.width)


@dataclass(frozen=True)
class SceneData:
    """What a source of scenes gives.

    Attributes:
        train: Faces to compose scenes of; see `scenes`.
        test: Scenes of people who are not in `train`: `photos` as they are, and `scenes` composed of them.
        notes: One line for each kind of thing that was left out.
        photographs: Real photographs to train on; see `scenes`.
        evaluated: Real photographs to evaluate on.
    """

    train: Sources
    test: Mapping[str, Scenes]
    config: ScenesConfig
    notes: Sequence[str] = field(default=())
    photographs: Sequence[LabeledPhotograph] = field(default=())
    evaluated: Sequence[EvaluationPhotograph] = field(default=())

    @property
    def scenes(self) -> Composed | Mixed:
        """The endless stream of scenes to train on."""
        composed = Composed(self.train, self.config)
        return Mixed(composed, self.photographs) if self.photographs else composed

    @property
    def held_out(self) -> Composed:
        """Scenes that are not trained on, by which the best weights are chosen; their people are those trained on."""
        return Composed(self.train, self.config, stream=_HELD_OUT_STREAM, count=_HELD_OUT_SCENES)


def load(config: ScenesConfig, cache: Path) -> SceneData:
    """Reads the lists and checks every picture, or draws faces.

    Args:
        cache: folder to keep rendered faces in.

    Raises:
        FileNotFoundError: a list does not exist.
        ValueError: a list is not one, or no face is left to train on or to be evaluated by.
        OSError: a list cannot be read, or the cache not be written.
    """
    data = _draw(config, cache) if config.root is None else _read(config, Path(config.root), cache)
    return _beside(data, config, cache) if config.photos or config.test_photos else data


def fingerprint(config: ScenesConfig) -> str:
    """A digest of the options and of the lists and the names and sizes of all pictures: the same in another place."""
    options = {**key_material(config), "root": None, "labeller": None}
    total = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    total.update(f"compose {COMPOSE_VERSION}".encode())
    if config.photos or config.test_photos:
        total.update(photo_sets.fingerprint(*_photo_paths(config)).encode())
    if config.rendered_people:
        total.update(rendered_faces.fingerprint(config.rendered_people, config.seed).encode())
    if config.root is None:
        return total.hexdigest()
    root = Path(config.root)
    if config.labeler is not None:
        total.update(f"labels {LABELS_VERSION} {file_sha256(existing(Path(config.labeler)))}".encode())
    for name in _LIST:
        total.update(existing(root / "detect" / name).read_bytes())
    for optional in (root / "lfw112" / "peopleDevTrain.txt", root / "lfw112" / "images_landmarks.csv"):
        total.update(optional.read_bytes() if optional.is_file() else b"none")
    for folder in (root / "detect" / "train", root / "detect" / "test", root / "lfw112" / "images"):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            total.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
    return total.hexdigest()


def fit(scene: Scene, height: int, width: int) -> Scene:
    """A scene in a frame of another size, as the device fits frames into its detector."""
    image, scale = fit_frame(scene.image, height, width)
    return Scene(image, ((scene.points + 0.5) * scale - 0.5).astype(np.float32))


def _within(index: int, count: int) -> None:
    """So that a sequence ends: `for` relies on it."""
    if not 0 <= index < count:
        raise IndexError(f"scene {index} of {count}")


def _data(
    config: ScenesConfig, train: Sources, photos: Sequence[Picture], test: Sources, notes: Sequence[str]
) -> SceneData:
    sets: dict[str, Scenes] = {
        "photos": Photos(photos, config.height, config.width),
        "scenes": Composed(test, config, stream=1, count=config.test_scenes),
    }
    return SceneData(train, sets, config, tuple(notes))


# Real photographs


def _photo_paths(config: ScenesConfig) -> tuple[list[Path], list[Path], list[Path], Path | None, Path | None]:
    """The sets to train on, backgrounds, those to evaluate on, the list of what is left out, and the labeler."""
    left_out, labeler = (None if name is None else Path(name) for name in (config.photos_left_out, config.labeler))
    return (
        [Path(folder) for folder in config.photos],
        [Path(folder) for folder in config.backgrounds],
        [Path(folder) for folder in config.test_photos],
        left_out,
        labeler,
    )


def _beside(data: SceneData, config: ScenesConfig, cache: Path) -> SceneData:
    """With real photographs beside the composed scenes."""
    folders, backgrounds, kept_out, left_out, labeler = _photo_paths(config)
    evaluated = [photograph for folder in kept_out for photograph in evaluation_photographs(folder, labeler, cache)]
    if not folders or labeler is None:
        return replace(data, evaluated=evaluated)
    photographs, notes = photo_sets.load_photographs(folders, backgrounds, kept_out, left_out, labeler, cache)
    return replace(data, evaluated=evaluated, photographs=photographs, notes=(*data.notes, *notes))


# Rendered faces


def _draw(config: ScenesConfig, cache: Path) -> SceneData:
    people = config.rendered_people
    pictures = rendered_pictures(people, config.seed, cache)
    kept = len(pictures) - IMAGES_PER_PERSON * min(max(1, round(config.held_out * people)), people - 1)
    test = Sources(photos=(), crops=pictures[kept:])
    photos = [portrait(test, (config.seed, 2, number)) for number in range(len(test.crops))]
    return _data(config, Sources(photos=(), crops=pictures[:kept]), photos, test, ())


# Photos and crops


def _read(config: ScenesConfig, root: Path, cache: Path) -> SceneData:
    labeler = None if config.labeler is None else Path(config.labeler)
    train, test, crops, notes = read_single_faces(root, labeler, cache)
    if config.rendered_people:
        crops += rendered_pictures(config.rendered_people, config.seed, cache)
    return _data(config, Sources(train, crops), test, Sources(test, ()), notes)
