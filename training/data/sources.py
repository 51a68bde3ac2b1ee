"""The data sources by name, and the questions that each answers."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slimcam.deploy.common.result_key import key_material
from slimcam.training.data.detection import scenes
from slimcam.training.data.detection.scenes import ScenesConfig
from slimcam.training.data.recognition import folders, lfw, packed, synthetic, unlabeled
from slimcam.training.data.recognition.faces import FaceData
from slimcam.training.data.recognition.folders import FoldersConfig
from slimcam.training.data.recognition.lfw import LfwConfig
from slimcam.training.data.recognition.packed import PackedConfig
from slimcam.training.data.recognition.synthetic import SyntheticConfig

DataConfig = SyntheticConfig | FoldersConfig | LfwConfig | PackedConfig


def load(config: DataConfig, cache: Path) -> FaceData:
    """Faces to train on and to be judged on; derived data, such as drawn faces, is kept in `cache`."""
    data = _labeled(config, cache)
    train, notes = unlabeled.beside(data.train, _unlabeled(config))
    return replace(data, train=train, notes=(*data.notes, *notes))


def _labeled(config: DataConfig, cache: Path) -> FaceData:
    if isinstance(config, SyntheticConfig):
        return synthetic.load(config, cache)
    if isinstance(config, LfwConfig):
        return lfw.load(config)
    if isinstance(config, PackedConfig):
        return packed.load(config)
    return folders.load(config)


def fingerprint(config: DataConfig | ScenesConfig) -> str:
    """A digest that changes when the data do; packed faces have that of the source that they were packed from."""
    if isinstance(config, LfwConfig | FoldersConfig) and config.unlabeled:
        others = unlabeled.fingerprint(_unlabeled(config))
        return hashlib.sha256(_of_labeled(config).encode() + others).hexdigest()
    return _of_labeled(config)


def _of_labeled(config: DataConfig | ScenesConfig) -> str:
    if isinstance(config, ScenesConfig):
        return scenes.fingerprint(config)
    if isinstance(config, SyntheticConfig):
        return synthetic.fingerprint(config)
    if isinstance(config, LfwConfig):
        return lfw.fingerprint(config)
    if isinstance(config, PackedConfig):
        return packed.fingerprint(config)
    return folders.fingerprint(config)


def _unlabeled(config: DataConfig) -> list[Path]:
    if isinstance(config, LfwConfig | FoldersConfig):
        return [Path(config.root) / path for path in config.unlabeled]
    return []


def source(config: DataConfig | ScenesConfig) -> dict[str, Any]:
    """The options that the faces were chosen by; of packed faces those of the source that they were packed from."""
    return packed.source(config) if isinstance(config, PackedConfig) else asdict(config)


def material(config: DataConfig | ScenesConfig) -> dict[str, Any]:
    """What of these options is part of the key of results; where the faces lie on this machine is none of it."""
    if isinstance(config, PackedConfig):
        return packed.source(config)
    options: dict[str, Any] = key_material(config)
    return options
