"""The data sources by name, and the two questions that each answers."""

from __future__ import annotations

from pathlib import Path

from training.data import folders, lfw, synthetic
from training.data.faces import FaceData
from training.data.folders import FoldersConfig
from training.data.lfw import LfwConfig
from training.data.synthetic import SyntheticConfig

DataConfig = SyntheticConfig | FoldersConfig | LfwConfig


def load(config: DataConfig, cache: Path) -> FaceData:
    """Faces to train on and to be judged on; derived data, such as drawn faces, is kept in `cache`."""
    if isinstance(config, SyntheticConfig):
        return synthetic.load(config, cache)
    if isinstance(config, LfwConfig):
        return lfw.load(config)
    return folders.load(config)


def fingerprint(config: DataConfig) -> str:
    """A digest that changes when the faces do."""
    if isinstance(config, SyntheticConfig):
        return synthetic.fingerprint(config)
    if isinstance(config, LfwConfig):
        return lfw.fingerprint(config)
    return folders.fingerprint(config)
