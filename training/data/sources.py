"""The data sources by name, and the questions that each answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from slimcam.deploy.common.result_key import key_material
from slimcam.training.data import own, samples
from slimcam.training.data.classification import digits, image_folders, road_signs
from slimcam.training.data.classification.digits import DigitsConfig
from slimcam.training.data.classification.image_folders import ImageFoldersConfig
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.classification.road_signs import RoadSignsConfig
from slimcam.training.data.detection import scenes
from slimcam.training.data.detection.scenes import ScenesConfig
from slimcam.training.data.own import OwnDataConfig
from slimcam.training.data.recognition import folders, lfw, packed, packed_sets, synthetic, unlabeled
from slimcam.training.data.recognition.faces import FaceData
from slimcam.training.data.recognition.folders import FoldersConfig
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.data.recognition.packed import PackedConfig
from slimcam.training.data.recognition.packed_sets import RecordsConfig, ShardsConfig
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.data.samples import SamplesConfig


@dataclass(frozen=True)
class DataSource:
    """One kind of source: `data=NAME` chooses it, `conf/data/NAME.yaml` names its schema, `/schema/data/NAME`.

    Attributes:
        config: Dataclass of its options.
        fingerprint: Digest of the data under a configuration.
        load: Faces under a configuration; the folder is for derived data, such as rendered faces. `None` where the data
            are no faces.
        load_classes: Images with classes, where the data are those.
    """

    config: type
    fingerprint: Callable[[Any], str]
    load: Callable[[Any, Path], FaceData] | None = None
    load_classes: Callable[[Any, Path], ClassData] | None = None


SOURCES = {
    "synthetic": DataSource(SyntheticConfig, synthetic.fingerprint, synthetic.load),
    "folders": DataSource(FoldersConfig, folders.fingerprint, lambda config, _: folders.load(config)),
    "lfw": DataSource(LfwConfig, lfw.fingerprint, lambda config, _: lfw.load(config)),
    "packed": DataSource(PackedConfig, packed.fingerprint, lambda config, _: packed.load(config)),
    "insightface": DataSource(RecordsConfig, packed_sets.fingerprint, lambda config, _: packed_sets.load(config)),
    "shards": DataSource(ShardsConfig, packed_sets.fingerprint, lambda config, _: packed_sets.load(config)),
    "scenes": DataSource(ScenesConfig, scenes.fingerprint),
    "road_signs": DataSource(RoadSignsConfig, road_signs.fingerprint, load_classes=road_signs.load),
    "digits": DataSource(DigitsConfig, digits.fingerprint, load_classes=digits.load),
    "image_folders": DataSource(
        ImageFoldersConfig, image_folders.fingerprint, load_classes=lambda config, _: image_folders.load(config)
    ),
    "own": DataSource(
        OwnDataConfig,
        own.fingerprint,
        lambda config, _: own.load_faces(config),
        lambda config, _: own.load_classes(config),
    ),
    "samples": DataSource(SamplesConfig, samples.fingerprint),
}
"""The one place to enter a new source."""


def load(config: Any, cache: Path) -> FaceData:
    """Faces to train on and to be evaluated on, of the source that a configuration is of.

    Raises:
        ValueError: the source holds no faces.
    """
    read = _source_of(config).load
    if read is None:
        raise ValueError(f"data: {type(config).__name__} describes no faces")
    data = read(config, cache)
    train, notes = unlabeled.beside(data.train, _unlabeled(config))
    return replace(data, train=train, notes=(*data.notes, *notes))


def load_classes(config: Any, cache: Path) -> ClassData:
    """Images with classes, of the source that a configuration is of.

    Raises:
        ValueError: the source holds none.
    """
    read = _source_of(config).load_classes
    if read is None:
        raise ValueError(f"data: {type(config).__name__} describes no images with classes")
    return read(config, cache)


def fingerprint(config: Any) -> str:
    """A digest that changes when the data do; packed faces have that of the source that they were packed from."""
    found = _source_of(config).fingerprint(config)
    if paths := _unlabeled(config):
        return hashlib.sha256(found.encode() + unlabeled.fingerprint(paths)).hexdigest()
    return found


def _source_of(config: Any) -> DataSource:
    return next(source for source in SOURCES.values() if source.config is type(config))


def _unlabeled(config: Any) -> list[Path]:
    return [Path(config.root) / path for path in getattr(config, "unlabeled", ())]


def source(config: Any) -> dict[str, Any]:
    """The options that the faces were chosen by; of packed faces those of the source that they were packed from."""
    return packed.source(config) if isinstance(config, PackedConfig) else asdict(config)


def material(config: Any) -> dict[str, Any]:
    """What of these options is part of the key of results; where the faces lie on this machine is none of it."""
    if isinstance(config, PackedConfig):
        return packed.source(config)
    options: dict[str, Any] = key_material(config)
    return options
