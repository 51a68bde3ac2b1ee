"""What `slimcam-camera reach=far` finds beside `reach=near`, by the width of the faces, and what it costs.

    python -m slimcam.pipeline.tools.evaluate_reach [--detector BUNDLE] [--data DATA]

Faces of one width stand or move in clips of 720p, 1080p and 4K from their first frame on; each clip is played through
what `slimcam-camera` does with each frame, once with each reach. The faces are rendered, or of photographs of DATA
(`detect/` with its lists), on backgrounds without a face. The times are those that a frame takes of its one thread,
whatever else runs on the machine: the median of many, all sizes and reaches in turn in one process, of clips with no
face and with three that are found, two of them far. Ten minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.sources import SourceKind
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Frame, View
from slimcam.deploy.vision.align import face_boxes, face_sizes
from slimcam.deploy.vision.detector import FittingDetector, open_detector
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.far_faces import Reach
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig
from slimcam.pipeline.tools.evaluate_scenes import followed
from slimcam.training.data.detection.pasting import Canvas, Paste, ellipse, moved, turn
from slimcam.training.data.detection.scene import Picture, Sources
from slimcam.training.data.detection.scenery import background
from slimcam.training.data.detection.scenes import Composed, ScenesConfig, load
from slimcam.training.data.images import Image
from slimcam.training.fit.progress import Progress

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
SMALL = (360, 640)
WIDTHS = (16, 24, 32, 48, 64, 96, 144, 192, 288)

SECOND = 1.0
"""Within which a face is to be found."""

SPEED = 3.0
"""Widths of a face that one which moves goes in a second."""

ROOM = 0.8
"""Widths of a face from its middle to the borders of the frame, at the least."""

BLOCK = 5
"""Frames in a row that are timed but for the first one: what ran before it is in the caches then."""

NOISE = 2.0
"""Standard deviation of the noise of each frame, of 255."""


@dataclass(frozen=True)
class Walker:
    """A face in a clip, from its first frame on.

    Attributes:
        image: Picture of the face, `(h, w, 3)`, in which it is about as wide as in the clip.
        points: Its points in the picture, `(5, 2)`.
        width: Width of the face in the clip, pixels.
        start: Where the middle of its points is in the first frame, x and y.
        velocity: Pixels a second, x and y.
    """

    image: Image
    points: NDArray[np.float32]
    width: float
    start: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def lay(self, canvas: Canvas, seconds: float) -> NDArray[np.float32]:
        """Lays it on the frame at a time; its points there, `(5, 2)`."""
        scale = self.width / float(face_sizes(self.points)[0])
        matrix = turn(self.points.mean(axis=0), 0.0, self._place(seconds, canvas.pixels), scale)
        x, y, w, h = face_boxes(self.points)[0].astype(float)
        # About the whole head, which reaches higher than the box.
        outline = ellipse(np.array([x + w / 2, y + 0.43 * h]), 1.3 * np.array([w / 2, 1.15 * h / 2]))
        outline = np.clip(outline, 0, np.array(self.image.shape[1::-1]) - 1.0)
        height, width = canvas.pixels.shape[:2]
        paste = Paste(matrix, moved(outline, matrix), 0.1 * self.width, height, width)
        canvas.lay(paste, paste.warp(self.image))
        return moved(self.points, matrix).astype(np.float32)

    def _place(self, seconds: float, frame: Image) -> NDArray[np.float64]:
        """Where its middle is at a time: it turns around before the borders of the frame."""
        room = ROOM * self.width
        way = np.maximum(np.array(frame.shape[1::-1]) - 2 * room, 1e-6)
        return np.asarray(room + way - np.abs((self.start + seconds * self.velocity - room) % (2 * way) - way))


@dataclass(frozen=True)
class ReachResult:
    """What a camera found of the faces of one width.

    Attributes:
        first: Seconds from the first frame to the one in which each face was found first; infinite for none.
        shown: Share of the frames after the first second that each face was found in.
        frames: Number of frames.
        false_faces: Number of followed faces in all frames that are none.
        passes: Passes of the network, of all frames.
    """

    first: tuple[float, ...]
    shown: tuple[float, ...]
    frames: int
    false_faces: int
    passes: int

    def __add__(self, other: ReachResult) -> ReachResult:
        return ReachResult(
            self.first + other.first,
            self.shown + other.shown,
            self.frames + other.frames,
            self.false_faces + other.false_faces,
            self.passes + other.passes,
        )


class CountingDetector:
    """A detector that counts its passes."""

    def __init__(self, detector: FittingDetector) -> None:
        self._detector, self.passes = detector, 0

    @property
    def input(self) -> tuple[int, int]:
        return self._detector.input

    def detect(self, frame: Image) -> Faces:
        self.passes += 1
        return self._detector.detect(frame)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.pipeline.tools.evaluate_reach",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--detector", type=Path, default=DETECTOR, help="bundle, or YuNet's .onnx file")
    parser.add_argument("--data", type=Path, help="folder with photos of one face; rendered faces without it")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="of rendered faces (%(default)s)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of the frames (all)")
    parser.add_argument(
        "--widths", nargs="+", type=int, default=list(WIDTHS), help="of the faces, pixels (%(default)s)"
    )
    parser.add_argument("--clips", type=int, default=2, help="clips of a size, a width and a way (%(default)s)")
    parser.add_argument("--faces", type=int, default=5, help="faces in a clip, at the most (%(default)s)")
    parser.add_argument("--fps", type=float, default=25.0, help="frames a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.4, help="length of a clip (%(default)s)")
    parser.add_argument("--timed", type=int, default=150, help="frames that are timed, of each size (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if min(options.clips, options.faces, options.timed) < 1 or not (options.seconds > SECOND and options.fps >= 1):
            raise ValueError("clips, faces, timed and fps are 1 or more, and a clip takes more than a second")
        cv2.setNumThreads(1)
        detector, recognizer = open_detector(options.detector), Recognizer(RECOGNIZER)
        root = None if options.data is None else str(options.data)
        scenes = load(ScenesConfig(root=root, people=None if root else 40), options.cache).test["scenes"]
        assert isinstance(scenes, Composed)
        for size in options.sizes:
            results = evaluate_reach(size, scenes.sources, detector, recognizer, options)
            show(reach_table(size, results, options.fps) + "\n")
        show(timed_table(time_frames(scenes.sources, detector, recognizer, options)))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"evaluate_reach: {error}")


Results = dict[tuple[int, bool, Reach], ReachResult]
"""By the width of the faces, whether they move, and the reach."""


def evaluate_reach(
    size: str, sources: Sources, detector: FittingDetector, recognizer: Recognizer, options: argparse.Namespace
) -> Results:
    """What is found in clips of one size."""
    results: Results = {}
    progress = Progress(2 * options.clips * len(options.widths), size, unit="clips")
    for width in options.widths:
        for moving in (False, True):
            for number in range(options.clips):
                rng = np.random.default_rng((width, moving, number, SIZES[size][0]))
                behind, walkers = scene_of(sources, SIZES[size], [width] * options.faces, moving, rng)
                frames = list(clip_frames(behind, walkers, options.fps, round(options.seconds * options.fps), rng))
                for reach in Reach:
                    result = play(frames, camera_of(detector, recognizer, reach, options.fps))
                    key = (width, moving, reach)
                    results[key] = results[key] + result if key in results else result
                progress.advance(1)
    progress.close()
    return results


def scene_of(
    sources: Sources, size: tuple[int, int], widths: Sequence[int], moving: bool, rng: np.random.Generator
) -> tuple[Image, list[Walker]]:
    """A background, and faces that stand or move before it and do not hide each other; those there is room for."""
    height, width = size
    behind = background(sources.photos, height, width, rng)
    pictures = sources.photos if len(sources.photos) else sources.crops
    walkers: list[Walker] = []
    for face in widths:
        for _ in range(50):
            room = ROOM * face
            start = rng.uniform((room, room), (width - room, height - room))
            if all(np.abs(start - other.start).max() > 1.6 * (face + other.width) / 2 for other in walkers):
                picture = pictures[int(rng.integers(len(pictures)))]
                way = rng.uniform(0, 2 * np.pi)
                velocity = moving * SPEED * face * np.array([math.cos(way), math.sin(way)])
                walkers.append(_walker(picture, face, start, velocity))
                break
    return behind, walkers


def _walker(picture: Picture, width: int, start: NDArray[np.float64], velocity: NDArray[np.float64]) -> Walker:
    """Of a picture that is shrunk well before: pasting only interpolates."""
    image, points = picture.image(), picture.points
    scale = min(1.0, width / float(face_sizes(points)[0]))
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    factors = np.array(shrunk.shape[1::-1]) / np.array(image.shape[1::-1])
    return Walker(shrunk, ((points + 0.5) * factors - 0.5).astype(np.float32), width, start, velocity)


def clip_frames(
    behind: Image, walkers: Sequence[Walker], fps: float, count: int, rng: np.random.Generator
) -> Iterator[tuple[Frame, NDArray[np.float32]]]:
    """The frames of a clip, and the points of the faces in each, `(N, 5, 2)`."""
    height, width = behind.shape[:2]
    noise = np.rint(rng.normal(0, NOISE, (height + 64, width + 64, 3))).astype(np.int16)
    for number in range(count):
        canvas = Canvas(behind.copy())
        points = np.array([walker.lay(canvas, number / fps) for walker in walkers], np.float32).reshape(-1, 5, 2)
        top, left = rng.integers(0, 64, 2).tolist()
        grain = np.ascontiguousarray(noise[top : top + height, left : left + width])
        image = cv2.add(canvas.pixels, grain, dtype=cv2.CV_8U)
        yield Frame(np.asarray(image), number, number / fps, 0.0), points


def camera_of(
    detector: FittingDetector, recognizer: Recognizer, reach: Reach, fps: float
) -> tuple[RecognitionPipeline, CountingDetector]:
    """A camera that knows nobody, and its detector."""
    counting = CountingDetector(detector)
    pipeline = RecognitionPipeline(
        *(counting, recognizer, None, RecognizeConfig(), QualityConfig(), TrackConfig()),
        kind=SourceKind.clip,
        fps=fps,
        reach=reach,
    )
    return pipeline, counting


def play(
    frames: Sequence[tuple[Frame, NDArray[np.float32]]], camera: tuple[RecognitionPipeline, CountingDetector]
) -> ReachResult:
    """What a camera finds in a clip."""
    pipeline, counting = camera
    faces = len(frames[0][1])
    first, shown, late, false_faces = [math.inf] * faces, [0] * faces, 0, 0
    for frame, points in frames:
        view: View = pipeline.see(frame)
        late += frame.seconds >= SECOND
        real = set()
        for number, face in enumerate(points):
            found = followed(face, view.sightings)
            if found is not None:
                real.add(found.track)
                first[number] = min(first[number], frame.seconds)
                shown[number] += frame.seconds >= SECOND
        false_faces += len(view.sightings) - len(real)
    shares = tuple(count / late for count in shown)
    return ReachResult(tuple(first), shares, len(frames), false_faces, counting.passes)


def reach_table(size: str, results: Results, fps: float) -> str:
    """A row for each width."""
    rows = [
        (
            "width",
            "faces",
            *(f"{reach}, {way}" for way in ("standing", "moving") for reach in Reach),
            "first find, far: p50, p90, worst",
            "in frames, near, far",
            "false, near, far",
            "passes",
        )
    ]
    for width in sorted({key[0] for key in results}):
        cells = [results[width, moving, reach] for moving in (False, True) for reach in Reach]
        near, far = (results[width, False, reach] + results[width, True, reach] for reach in Reach)
        found = sorted(far.first)
        late = [found[min(len(found) - 1, math.ceil(share * len(found)) - 1)] for share in (0.5, 0.9, 1.0)]
        rows.append(
            (
                str(width),
                str(len(far.first)),
                *(f"{100 * np.mean([each <= SECOND for each in one.first]):.0f} %" for one in cells),
                ", ".join("-" if math.isinf(each) else f"{each:.2f} s" for each in late),
                ", ".join(f"{100 * np.mean(one.shown):.0f} %" for one in (near, far)),
                ", ".join(f"{100 * one.false_faces / one.frames:.1f} %" for one in (near, far)),
                f"{far.passes / far.frames:.2f}",
            )
        )
    height, width = SIZES[size]
    return f"{size}, {width}x{height}, {fps:g} frames a second: faces found within a second\n{grid(rows)}"


Times = dict[tuple[str, int, Reach], tuple[list[float], float]]
"""Milliseconds of each frame, and passes of the network a frame, by the size of a frame, its faces and the reach."""


def time_frames(
    sources: Sources, detector: FittingDetector, recognizer: Recognizer, options: argparse.Namespace
) -> Times:
    """What a frame takes of the one thread: all sizes and reaches in turn."""
    cameras, clips = {}, {}
    for name, size in {"640x360": SMALL, **{size: SIZES[size] for size in options.sizes}}.items():
        # Faces that are found with `far`: as wide as at least 16 pixels of 320 at 640x360, where that is as `near`.
        far = 36 if size is SMALL else round(24 * max(1, size[1] / 1920))
        for widths in ([], [size[1] // 10, far, far]):
            rng = np.random.default_rng(size[0])
            behind, walkers = scene_of(sources, size, widths, True, rng)
            clips[name, len(widths)] = [frame for frame, _ in clip_frames(behind, walkers, options.fps, 8, rng)]
            for reach in Reach:
                cameras[name, len(widths), reach] = camera_of(detector, recognizer, reach, options.fps)
    spent: dict[tuple[str, int, Reach], list[float]] = {key: [] for key in cameras}
    for round_ in range(math.ceil(options.timed / (BLOCK - 1))):
        for key, (pipeline, _) in cameras.items():
            clip = clips[key[:2]]
            for number in range(round_ * BLOCK, (round_ + 1) * BLOCK):
                # There and back again, so that it does not jump. A copy: as a decoder leaves it, partly in the caches.
                place = number % (2 * len(clip) - 2)
                image = clip[min(place, 2 * len(clip) - 2 - place)].image.copy()
                frame = Frame(image, number, number / options.fps, time.monotonic())
                start = time.thread_time()
                pipeline.see(frame)
                if number % BLOCK:
                    spent[key].append(1000 * (time.thread_time() - start))
    return {key: (times, cameras[key][1].passes * (BLOCK - 1) / BLOCK / len(times)) for key, times in spent.items()}


def timed_table(timed: Times) -> str:
    """A row for each size, number of faces and reach; times beside those of the first size with as many faces."""
    rows = [("frame", "faces", "reach", "passes", "p50 ms", "of 640x360", "p90 ms")]
    for (size, faces, reach), (spent, passes) in timed.items():
        base = np.median(timed["640x360", faces, Reach.near][0])
        middle, late = np.percentile(spent, (50, 90))
        rows.append((size, str(faces), reach, f"{passes:.2f}", f"{middle:.2f}", f"{middle / base:.2f}", f"{late:.2f}"))
    return grid(rows)


if __name__ == "__main__":
    main()
