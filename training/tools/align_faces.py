"""Photos to aligned crops: `slimcam-align FOLDER OUT`, for `slimcam data=folders data.root=OUT`.

What has no face, or several of which none is clearly the one meant, is listed in `OUT/not_aligned.csv`. A run that was
stopped goes on: what is there or listed is not looked at again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common import entry
from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.messages import one_line
from slimcam.deploy.inference.bundle import DETECTOR
from slimcam.deploy.vision.align import align, face_sizes
from slimcam.deploy.vision.detector import Detector, open_detector
from slimcam.training.data.images import Image, decode, read_bytes
from slimcam.training.data.recognition.folders import EXTENSIONS
from slimcam.training.fit.progress import Progress

SKIPPED = "not_aligned.csv"

RIVAL = 0.6
"""A face of this share of the largest one's size makes it unclear whose photo it is."""

NO_FACE, SEVERAL, UNREADABLE = "no face", "several faces", "not a readable image"


def main() -> None:
    """The console script."""
    parser = argparse.ArgumentParser(prog="slimcam-align", description=(__doc__ or "").replace("`", ""))
    parser.add_argument("folder", type=Path, help="photos, one folder for each person")
    parser.add_argument("out", type=Path, help="gets a 112x112 crop of each photo, in folders as they were")
    parser.add_argument("--detector", type=Path, default=DETECTOR, help="a bundle, or YuNet's .onnx file")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('slimcam')}")
    arguments = parser.parse_args()
    try:
        entry.begin()
        print(align_folder(arguments.folder, arguments.out, open_detector(arguments.detector)))
    except KeyboardInterrupt:
        print("slimcam-align: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"slimcam-align: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def align_folder(folder: Path, out: Path, detector: Detector) -> str:
    """Aligns the faces of all photos below a folder that are not aligned yet; returns what came of it, in a line.

    Raises:
        FileNotFoundError: no such folder, or no photo in it.
        ValueError: both folders are one.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if folder.resolve() == out.resolve():
        raise ValueError("the crops go to a folder of their own: give another one")
    photos = _photos(folder, out)
    if not photos:
        raise FileNotFoundError(f"there is no photo in {folder} or below it")
    known = _skipped(out)
    left = [photo for photo in photos if photo.as_posix() not in known and not _crop(out, photo).is_file()]
    progress = Progress(len(photos), "aligning", unit="photos", done=len(photos) - len(left))
    out.mkdir(parents=True, exist_ok=True)
    with (out / SKIPPED).open("a", newline="") as file:
        rows = csv.writer(file)
        for photo in left:
            found = aligned(decode(read_bytes(folder / photo)), detector)
            if isinstance(found, str):
                rows.writerow([photo.as_posix(), found])
                file.flush()
            else:
                with atomic(_crop(out, photo)) as partial:
                    cv2.imwrite(str(partial), found[..., ::-1])
            progress.advance(1)
    progress.close()
    reasons = Counter(reason for name, reason in _skipped(out).items() if Path(name) in set(photos))
    listed = "".join(f", {count} {reason}" for reason, count in sorted(reasons.items()))
    where = f" (listed in {out / SKIPPED})" if reasons else ""
    return f"{len(photos) - sum(reasons.values())} of {len(photos)} photos aligned into {out}{listed}{where}"


def aligned(photo: Image | None, detector: Detector) -> NDArray[np.uint8] | str:
    """The aligned crop of the face in a photo, `(112, 112, 3)` uint8 RGB, or why there is none."""
    if photo is None:
        return UNREADABLE
    points = detector.detect(photo).points
    if not len(points):
        return NO_FACE
    sizes = face_sizes(points)
    first, *others = np.argsort(-sizes)
    if others and sizes[others[0]] >= RIVAL * sizes[first]:
        return SEVERAL
    return align(photo, points[first])


def _photos(folder: Path, out: Path) -> list[Path]:
    """The photos below a folder, relative to it, less those of the crops if they lie there too."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS and path.is_file())
    inside = out.resolve()
    return [
        path.relative_to(folder)
        for path in found
        if inside not in path.resolve().parents and not any(part[0] == "." for part in path.relative_to(folder).parts)
    ]


def _crop(out: Path, photo: Path) -> Path:
    # The whole name is kept: there may be a.jpg and a.png.
    return out / photo.parent / f"{photo.name}.png"


def _skipped(out: Path) -> dict[str, str]:
    """Why each photo that earlier runs skipped was, by its name; a line that was cut short is left out."""
    try:
        with (out / SKIPPED).open(newline="") as file:
            rows: list[Sequence[str]] = list(csv.reader(file))
    except FileNotFoundError:
        return {}
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[1] in (NO_FACE, SEVERAL, UNREADABLE)}


if __name__ == "__main__":
    main()
