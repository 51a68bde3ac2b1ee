"""A detector beside YuNet, in one run: faces found by size, error of their points, time, and crops to recognize.

    python -m slimcam.training.tools.compare_detectors deploy/models/detector --yunet FILE.onnx --photographs FOLDER
    python -m slimcam.training.tools.compare_detectors deploy/models/detector --yunet FILE.onnx --data DATA \\
        --teacher FILE.onnx

Both detectors look at pictures in the size that the bundle takes, each picture by both in turn, on one thread.

FOLDER holds photographs and the boxes of the faces in them, drawn by people: .xml files of Pascal VOC, .txt files of
YOLO (classes.txt names the classes), or a list *_bbx_gt.txt of WIDER FACE. Recall is told for each label, and by the
width of the box at that size. Faces that nobody boxed, but that --labeler is sure of, count neither way. Points are
compared with the means of its answers in four views of the photograph. With --full-size YuNet sees each photograph in
its own size too, and the bundle all parts of it, as `slimcam-camera reach=far` does.

DATA holds detect/ (test.csv) and lfw112/ (pairsDevTest.txt): photos of one face, and scenes composed of them. The crops
of the detectors' points go to the teacher, a recognizer; what is compared is how well it tells people apart by them.
Five minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.text_table import grid
from slimcam.deploy.inference.bundle import MODEL
from slimcam.deploy.vision.detector import (
    YUNET_THRESHOLD,
    Detector,
    FaceDetector,
    FittingDetector,
    YuNet,
    open_detector,
)
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.far_faces import FarSearch
from slimcam.training.data.detection.labels import EvaluationPhotograph, evaluation_photographs
from slimcam.training.data.detection.scenes import Scenes, ScenesConfig, load
from slimcam.training.data.images import read_picture
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.detection.evaluation import FPPI
from slimcam.training.tasks.detection.metrics import (
    PHOTO_SIZES,
    SIZES,
    Match,
    Recall,
    average_precision,
    landmark_error,
    match,
    recall_at,
)
from slimcam.training.tasks.detection.photographs import (
    SMALLEST,
    evaluated_labels,
    fitted_scale,
    match_photograph,
    recall_by_label,
)
from slimcam.training.tasks.detection.sheet import check_sheet, draw_sheet
from slimcam.training.tools.verify_crops import verify_crops

LEAST_SCORE = 0.02
"""How recall is bought with false faces is what is asked: scores that no camera would take are."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.compare_detectors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--yunet", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, nargs="+", default=[], help="folders with boxed faces")
    parser.add_argument("--labeler", type=Path, help="finds faces that nobody boxed (the file of --yunet)")
    parser.add_argument("--sheet", type=Path, help="image file for twenty photographs with finds and misses (.jpg)")
    parser.add_argument("--full-size", action="store_true", help="each photograph in its own size too")
    parser.add_argument("--data", type=Path, help="folder with photos of one face")
    parser.add_argument("--teacher", type=Path, help="recognizer for the crops of --data")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of labels and rendered faces")
    options = parser.parse_args(arguments)
    if options.data is None and not options.photographs:
        parser.error("nothing to compare on: give --photographs, --data, or both")
    try:
        own = Peer(open_detector(options.bundle), open_detector(options.bundle, LEAST_SCORE), options.bundle / MODEL)
        size = _input(own.detector)
        yunet, eager = (YuNet(options.yunet, threshold, input=size) for threshold in (YUNET_THRESHOLD, LEAST_SCORE))
        detectors = {"slimcam": own, "YuNet": Peer(yunet, eager, options.yunet)}
        for folder in options.photographs:
            evaluated = evaluation_photographs(folder, options.labeler or options.yunet, options.cache)
            sheet = options.sheet and options.sheet.with_stem(f"{options.sheet.stem}-{folder.name}")
            table = compare_photographs(
                folder.name, evaluated, detectors, size, full_size=options.full_size, sheet=sheet
            )
            print("\n".join(table), flush=True)
            if sheet is not None:
                print(f"finds and misses of slimcam: {sheet}\n", flush=True)
        if options.data is not None:
            data = load(ScenesConfig(root=str(options.data), labeler=str(options.yunet)), options.cache)
            for name, scenes in data.test.items():
                print("\n".join(compare(name, scenes, detectors)), flush=True)
            if options.teacher is not None:
                cameras = {name: peer.detector for name, peer in detectors.items()}
                print("\n".join(verify_crops(options.data, cameras, "YuNet", options.teacher)))
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"compare_detectors: {error}")


@dataclass(frozen=True)
class Peer:
    """A detector with the threshold that a camera runs it with, one that finds nearly everything, and their model."""

    detector: Detector
    eager: Detector
    file: Path


class FullSizeYuNet:
    """YuNet that looks at each frame in its own size; a network for each, kept."""

    def __init__(self, model: Path, threshold: float) -> None:
        self._network = lru_cache(maxsize=4)(lambda *input: YuNet(model, threshold, input=input))

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        return self._network(*frame.shape[:2]).detect(frame)


class AllParts:
    """A detector that looks at all parts of each frame, as `slimcam-camera reach=far` looks at pictures."""

    def __init__(self, detector: FittingDetector) -> None:
        self._detector, self._search = detector, FarSearch()

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        return self._search.find(self._detector, frame)[0]


def compare_photographs(
    name: str,
    photographs: Sequence[EvaluationPhotograph],
    peers: Mapping[str, Peer],
    size: tuple[int, int],
    *,
    full_size: bool,
    sheet: Path | None = None,
) -> list[str]:
    """What each detector finds of the faces that people boxed, and its milliseconds (median), as lines of a table.

    Args:
        size: Height and width that the detectors look at.
        full_size: Whether YuNet looks at each photograph in its own size too, and slimcam at all parts of it.
        sheet: Image file for twenty photographs with what the first detector finds and misses, if there is to be one.
    """
    if sheet is not None:
        check_sheet(sheet)  # before the minutes that follow
    height, width = size
    found = {f"{peer}, {width}x{height}": each for peer, each in peers.items()}
    if full_size:
        # One network for both: the time of making it for a new size is none of finding faces.
        yunet = FullSizeYuNet(peers["YuNet"].file, LEAST_SCORE)
        found["YuNet, full size"] = Peer(yunet, yunet, peers["YuNet"].file)
        own = peers["slimcam"]
        assert isinstance(own.detector, FaceDetector)
        assert isinstance(own.eager, FaceDetector)
        found["slimcam, all parts"] = Peer(AllParts(own.detector), AllParts(own.eager), own.file)
    matches: dict[str, list[Match]] = {peer: [] for peer in found}
    times: dict[str, list[float]] = {peer: [] for peer in found}
    finds: dict[str, list[Faces]] = {peer: [] for peer in found}
    scales = []
    progress = Progress(len(photographs), name, unit="photographs")
    for photograph in photographs:
        image = read_picture(photograph.path)
        scales.append(fitted_scale(image, height, width))
        for peer, each in found.items():
            faces, milliseconds = _timed(each, image)
            times[peer].append(milliseconds)
            finds[peer].append(faces)
            matches[peer].append(match_photograph(faces, photograph, image, height, width))
        progress.advance(1)
    progress.close()
    if sheet is not None:
        first = next(iter(found))
        draw_sheet(photographs, finds[first], matches[first], size, sheet)
    labels = evaluated_labels(photographs, scales)
    kinds = sorted(set(labels.tolist())) if len(set(labels.tolist())) > 1 else []
    ranges = [f"{size} px ({_count(matches, size)})" for size in PHOTO_SIZES]
    counted = [f"{kind} ({np.sum(labels == kind)})" for kind in kinds]
    rows = [("detector", "all", *counted, *ranges, "AP", "point error", "ms", "kB")]
    for peer, each in found.items():
        recall = recall_at(matches[peer], FPPI)
        by_label = recall_by_label(recall, labels)
        shares = [recall.share(), *(by_label[kind] for kind in kinds), *recall.by_size(PHOTO_SIZES).values()]
        figures = (*_precision(matches[peer], recall), f"{np.median(times[peer]):.2f}", _kilobytes(each))
        rows.append((peer, *(_percent(share) for share in shares), *figures))
    ignored = sum(len(photograph.ignored) for photograph in photographs)
    return [
        f"{name}: {len(photographs):,} photographs, {len(labels):,} faces boxed by people and at least {SMALLEST:g} "
        f"pixels wide at {width}x{height}, {ignored:,} regions ignored; recall at {FPPI:g} false faces an image",
        grid(rows),
        "",
    ]


def _input(detector: Detector) -> tuple[int, int]:
    """Height and width that a detector looks at."""
    if not isinstance(detector, FaceDetector):
        raise ValueError("the first argument is a bundle of slimcam's detector; YuNet's file goes to --yunet")
    return detector.model.spec.height, detector.model.spec.width


def _timed(peer: Peer, image: NDArray[np.uint8]) -> tuple[Faces, float]:
    """Nearly all that a detector finds, and its milliseconds with the threshold of a camera."""
    faces = peer.eager.detect(image)  # also brings it back into the caches
    start = time.perf_counter()
    peer.detector.detect(image)
    return faces, 1e3 * (time.perf_counter() - start)


def _count(matches: Mapping[str, Sequence[Match]], size: str) -> int:
    low, high = PHOTO_SIZES[size]
    return sum(int(np.sum((each.sizes >= low) & (each.sizes < high))) for each in next(iter(matches.values())))


def _kilobytes(peer: Peer) -> str:
    return f"{peer.file.stat().st_size / 1e3:.0f}"


def compare(name: str, scenes: Scenes, peers: Mapping[str, Peer]) -> list[str]:
    """What each detector finds in scenes, and its milliseconds (median), as lines of a table."""
    matches: dict[str, list[Match]] = {peer: [] for peer in peers}
    times: dict[str, list[float]] = {peer: [] for peer in peers}
    progress = Progress(len(scenes), name, unit="images")
    for index in range(len(scenes)):
        scene = scenes[index]
        for peer, found in peers.items():
            faces, milliseconds = _timed(found, scene.image)
            times[peer].append(milliseconds)
            matches[peer].append(match(faces.points, faces.scores, scene.points))
        progress.advance(1)
    progress.close()
    rows = [("detector", *(f"{size} px" for size in SIZES), "AP", "point error", "ms", "kB")]
    for peer, found in peers.items():
        recall = recall_at(matches[peer], FPPI)
        rows.append(
            (
                peer,
                *(_percent(share) for share in recall.by_size().values()),
                *_precision(matches[peer], recall),
                f"{np.median(times[peer]):.2f}",
                _kilobytes(found),
            )
        )
    first = next(iter(matches.values()))
    there = sum(len(each.sizes) for each in first)
    return [f"{name}: {len(first):,} images, {there:,} faces; recall at {FPPI:g} false faces an image", grid(rows), ""]


def _precision(matches: Sequence[Match], recall: Recall) -> tuple[str, str]:
    """Average precision, and the mean error of the points of the faces found."""
    precision, error = average_precision(matches), landmark_error(recall)
    return "-" if precision is None else f"{precision:.3f}", "-" if error is None else f"{error.mean:.2f} %"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
