"""Data sources in the packed formats of others: InsightFace's records and verification packs, WebDataset's shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from slimcam.deploy.common.result_key import NOT_KEY
from slimcam.training.data.images import existing
from slimcam.training.data.recognition import verification_pack
from slimcam.training.data.recognition.faces import FaceData
from slimcam.training.data.recognition.folders import choices, digest_file
from slimcam.training.data.recognition.record_file import open_records, records_fingerprint
from slimcam.training.data.recognition.shards import open_shards, shards_fingerprint
from slimcam.training.data.recognition.split import LEAST_PEOPLE, split_people, too_few


@dataclass
class PackedSetConfig:
    """A labeled set in packed files, and what is evaluated on.

    Attributes:
        root: Folder of the set, and of the packs.
        packs: Verification packs of InsightFace, relative to `root`: pairs of the first are the test, the others are
            held out. With none, people of the set are kept for verification.
        unlabeled: Folders of aligned crops, or files of the pack stage, relative to `root`; what they hold is trained
            on by distillation alone.
        test_fraction: Share of the people kept, where there are no packs.
        test_pairs: Number of verification pairs sampled from the people kept.
        seed: Seed of the split and the pairs.
    """

    task: ClassVar[str] = "recognition"

    kind: str = "???"
    root: str = field(default="???", metadata=NOT_KEY)
    packs: list[str] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list, metadata=NOT_KEY)
    test_fraction: float = 0.1
    test_pairs: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"data.test_fraction must lie between 0 and 1; got {self.test_fraction}")


@dataclass
class RecordsConfig(PackedSetConfig):
    """InsightFace's `train.rec` and `train.idx`, and packs such as `lfw.bin` beside them."""

    kind: str = "insightface"


@dataclass
class ShardsConfig(PackedSetConfig):
    """The `.tar` files of a folder, as WebDataset has them."""

    kind: str = "shards"


def load(config: PackedSetConfig) -> FaceData:
    """Reads the indexes; images stay in their files until they are asked for.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is damaged, or the people are too few.
    """
    root = Path(config.root)
    faces = open_records(root) if isinstance(config, RecordsConfig) else open_shards(root)
    if not config.packs:
        if len(faces.identities) < LEAST_PEOPLE:
            raise too_few(len(faces.identities), config.root, "; or give data.packs to verify by")
        return split_people(faces, config.test_fraction, config.test_pairs, config.seed)
    test, *others = (verification_pack.read(root / name) for name in config.packs)
    return FaceData(faces, test.faces, test.pairs, held_out=tuple(others))


def fingerprint(config: PackedSetConfig) -> str:
    """A digest of the indexes, of samples of the images, and of the packs."""
    root = Path(config.root)
    total = hashlib.sha256(choices(config))
    total.update(records_fingerprint(root) if isinstance(config, RecordsConfig) else shards_fingerprint(root))
    for name in config.packs:
        total.update(digest_file(existing(root / name)))
    return total.hexdigest()
