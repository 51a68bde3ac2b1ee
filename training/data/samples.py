"""Images without names: what a model file is calibrated by."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.result_key import NOT_KEY
from slimcam.deploy.inference.preprocessing import middle, resized
from slimcam.training.data.images import Image, decode, read_bytes
from slimcam.training.data.recognition.file_index import contents_of
from slimcam.training.data.recognition.folders import images_below

logger = logging.getLogger(__name__)


@dataclass
class SamplesConfig:
    """Images of any size, however deep they lie in a folder; the middle of each is what a model sees.

    Attributes:
        root: Folder of the images, like those that the model will see; `null` has none.
    """

    task: ClassVar[str] = "none"

    kind: str = "samples"
    root: str | None = field(default=None, metadata=NOT_KEY)


def fingerprint(config: SamplesConfig) -> str:
    """A digest of the names and contents of all images.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no image in it.
    """
    total = hashlib.sha256()
    if config.root is not None:
        folder, files = Path(config.root), _files(config.root)
        for path, digest in zip(files, contents_of(folder, files).digests, strict=True):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + digest.tobytes())
    return total.hexdigest()


def batches(root: str, count: int, height: int, width: int, batch_size: int = 32) -> Iterator[NDArray[np.uint8]]:
    """Some of the images in a folder, the same at each call, `(<= batch_size, height, width, 3)` uint8 RGB.

    Files that cannot be read are named in the log and passed over.

    Args:
        root: The folder.
        count: Number of images at the most.
        height, width: What they are brought to.

    Raises:
        ValueError: None of the files is an image that can be read.
    """
    files = _files(root)
    found: list[Image] = []
    given = 0
    for index in np.random.default_rng(0).permutation(len(files)):
        image = decode(read_bytes(files[int(index)]))
        if image is None:
            logger.warning(f"skipped {files[int(index)]}: not a readable image")
            continue
        found.append(resized(middle(image, height, width), height, width))
        given += 1
        if len(found) == batch_size or given == count:
            yield np.stack(found)
            found.clear()
        if given == count:
            return
    if found:
        yield np.stack(found)
    elif not given:
        raise ValueError(f"data.root: none of the {len(files)} files in {root} is an image that can be read")


def _files(root: str) -> list[Path]:
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"data.root: no folder {root}")
    files = images_below(folder)
    if not files:
        raise ValueError(f"data.root: no image in {root} or below it")
    return files
