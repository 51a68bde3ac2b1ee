"""The faces that recognizers are compared on, as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_module

from slimcam.pipeline.config import register, validate
from slimcam.training.data import sources
from slimcam.training.data.recognition import lfw, verification_pack
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.data.recognition.folders import face_set, scan
from slimcam.training.data.recognition.pairs import sample_verification


def open_faces(path: Path, images: Path | None, count: int) -> tuple[str, Verification, tuple[str, ...]]:
    """A verification set, its name, and one line for each image that was skipped.

    Args:
        path: a list of pairs as LFW has it, a `.bin` pack of InsightFace, or a folder of people, of whom pairs are
            sampled.
        images: folder of the images of a list; `images` beside the list by default.
        count: number of pairs sampled.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: it is neither, or the people are too few.
    """
    if path.is_dir():
        listing = scan([path])
        faces = face_set(listing, set(listing.names))
        return path.resolve().name, sample_verification(faces, count, path.name), listing.notes
    if path.suffix == ".bin":
        return path.stem, verification_pack.read(path), ()
    found, notes = lfw.load_pairs(path, images or path.parent / "images")
    return path.stem, found, notes


def open_source(overrides: Sequence[str]) -> tuple[list[tuple[str, Verification]], tuple[str, ...]]:
    """The test and the people held out of a data source of slimcam, as stage `evaluate` has them.

    Args:
        overrides: options as `slimcam` takes them, for example `data=lfw_pins` and `data.root=FOLDER`.

    Raises:
        HydraException, OmegaConfBaseException, ValueError, FileNotFoundError: as `slimcam` does.
    """
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        config = validate(compose("slimcam", list(overrides)))
    data = sources.load(config.data, Path(config.paths.cache))
    sets = [("test", Verification(data.test, data.pairs))]
    sets += [(held.source or "people held out", held) for held in data.held_out]
    return sets, tuple(data.notes)
