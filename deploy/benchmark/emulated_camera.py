"""The whole camera on an emulated Cortex-A53: does it see what it sees here, and how quick would it be there?"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.benchmark.a53.camera_trial import (
    Trial,
    TrialOptions,
    frames_of,
    open_recognition,
    pictured,
    seen,
    write_gallery,
)
from slimcam.deploy.benchmark.a53.dump import PARTS, read_stages
from slimcam.deploy.benchmark.a53.emulator import ask, watched
from slimcam.deploy.benchmark.a53.guest import PROGRESS
from slimcam.deploy.benchmark.a53.latency import read_constants
from slimcam.deploy.benchmark.a53.stages import RatePrediction, StagePrediction, predict_stages
from slimcam.deploy.benchmark.a53.sysroot import make_sysroot
from slimcam.deploy.benchmark.emulated import EmulatedConfig
from slimcam.deploy.common.redaction import redacted
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.gallery.people import Snapshot
from slimcam.deploy.latency.record import Estimate
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.align import face_sizes

logger = logging.getLogger(__name__)

POINTS_TOLERANCE = 0.02
"""Widths of a face by which a point may lie elsewhere: libraries round differently on the two processors."""

SCORE_TOLERANCE = 0.02
"""By which cosines may differ for the same reason."""

Answer = dict[str, Any]
"""What was seen in a frame, see `camera_trial.seen`."""


@dataclass(frozen=True, kw_only=True)
class CameraRequest(TrialOptions):
    """What to try, and on which device; see `TrialOptions`.

    Attributes:
        snapshot: Snapshot of the gallery; `None` where there is none.
        device: Chip to predict for, and where the emulated device is cached.
    """

    snapshot: Snapshot | None = None
    device: EmulatedConfig = field(default_factory=EmulatedConfig)

    def __post_init__(self) -> None:
        if self.frames < 1 or self.warmup < 1 or self.skip < 0:
            raise ValueError(
                f"an emulated camera needs 1 frame or more, 1 or more to warm up, and skips 0 or more; "
                f"got {self.frames}, {self.warmup} and {self.skip}"
            )
        if not Path(self.source).exists():
            raise FileNotFoundError(
                f"{redacted(self.source)}: there is no such file or folder; an emulated device has no camera, "
                "give it a video file or a folder of pictures"
            )


@dataclass(frozen=True)
class Gap:
    """How far the emulated ARM is from this machine at most.

    Attributes:
        points: Largest distance of landmarks, pixels of the frame.
        score: Largest difference of the cosines of identities.
    """

    points: float
    score: float


@dataclass(frozen=True)
class CameraPrediction:
    """What an emulated camera did.

    Attributes:
        frames: Number of frames that were counted, after `warmup` others.
        size: Width and height of the first frame.
        stages: Predictions of the stages, in the order of `camera_trial.COUNTED`.
        rates: Predictions of whole frames, by the number of faces.
        seen: What the emulated ARM saw in each frame, warm-up included; see `camera_trial.seen`.
        differences: Differences from what this machine sees in the same frames, a line each.
        gap: Gap in the same frames.
        decoded_gap: Gap where each machine decodes the clip for itself.
        decoding: Largest and mean difference of the decoded pixels, 0..255.
    """

    device: str
    clock_mhz: float
    warmup: int
    frames: int
    size: tuple[int, int]
    stages: list[StagePrediction]
    rates: list[RatePrediction]
    seen: list[Answer]
    differences: list[str]
    gap: Gap
    decoded_gap: Gap
    decoding: tuple[int, float]


def run(request: CameraRequest) -> CameraPrediction:
    """Runs the camera on the emulated ARM and on this machine; some minutes, progress goes to stderr.

    Raises:
        OSError: the emulated device cannot be made on this system, or the source cannot be read.
        ValueError: the source, a bundle or an option is not fit, or the clip ends before the frames that count.
        RuntimeError: the camera does not run on the emulated ARM.
    """
    with tempfile.TemporaryDirectory(prefix="slimcam-a53-") as scratch:
        folder = Path(scratch)
        trial = _trial(request, folder)
        # What is wrong with it shows here, in seconds.
        own_frames = list(frames_of(trial))
        if len(own_frames) <= trial.warmup:
            raise ValueError(
                f"{request.source}: {len(own_frames)} frames after the first {trial.skip}; "
                f"an emulated camera needs more than the {trial.warmup} that it warms up with"
            )
        own = answers(trial, own_frames)
        sysroot = make_sysroot(Path(request.device.cache) if request.device.cache else None)
        functions = sysroot.functions()
        logger.info(f"{PROGRESS}a camera that sees {len(own_frames)} frames")
        trial.write(folder / "trial.json")
        dump = folder / "blocks.txt"
        arguments = ("camera", str(folder / "trial.json"), *watched(functions))
        answer = ask(sysroot, f"out={dump},whole=1", *arguments, progress=True)
        there: list[Answer] = answer["frames"]
        if len(there) <= trial.warmup:
            raise RuntimeError(f"the emulated ARM read {len(there)} frames of {request.source}, not {len(own_frames)}")
        same = answers(trial, pictured(trial, there))
        blocks, stretches = read_stages(dump, answer, functions)
        decoding = pixel_gap(own_frames, list(pictured(trial, there)))
    counts = [len(answer["faces"]) for answer in there[trial.warmup :]]
    stages, rates = predict_stages(blocks, stretches, counts, request.device.chip(), read_constants(), trial.warmup)
    differences, gap = compare_answers(there, same)
    decoded, decoded_gap = compare_answers(there, own, compare_figures=False)
    height, width = own_frames[0].image.shape[:2]
    return CameraPrediction(
        device=request.device.device,
        clock_mhz=request.device.clock_mhz,
        warmup=trial.warmup,
        frames=len(counts),
        size=(width, height),
        stages=stages,
        rates=rates,
        seen=there,
        differences=differences + [f"decoded here, {line}" for line in decoded],
        gap=gap,
        decoded_gap=decoded_gap,
        decoding=decoding,
    )


def answers(trial: Trial, frames: Iterable[Frame]) -> list[Answer]:
    """What this machine sees in some frames."""
    recognition = open_recognition(trial)
    return [seen(recognition.see(frame)) for frame in frames]


def compare_answers(
    there: Sequence[Answer], here: Sequence[Answer], compare_figures: bool = True
) -> tuple[list[str], Gap]:
    """What the emulated ARM saw otherwise than this machine.

    Args:
        compare_figures: quality issues are differences too, and points and scores that differ by more than the
            tolerances; tracks and people always are.
    """
    differences: list[str] = []
    if len(there) != len(here):
        differences.append(f"{len(there)} frames on the emulated ARM, {len(here)} on this machine")
    points = score = 0.0
    for ours, other in zip(here, there, strict=False):
        title = f"frame {ours['number']}"
        tracks = [{face["track"]: face for face in answer["faces"]} for answer in (ours, other)]
        if tracks[0].keys() != tracks[1].keys():
            names = (", ".join(map(str, each)) or "none" for each in tracks)
            differences.append(f"{title}: faces {next(names)} here, {next(names)} on the emulated ARM")
        for track in tracks[0].keys() & tracks[1].keys():
            face, their = (each[track] for each in tracks)
            differences += [
                f"{title}, face {track}: {name} {face[name]} here, {their[name]} on the emulated ARM"
                for name in (("quality_issues", "looked_at", "person") if compare_figures else ("person",))
                if face[name] != their[name]
            ]
            places = np.array([face["points"], their["points"]], np.float32)
            apart = float(np.abs(places[0] - places[1]).max())
            unlike = abs((face["score"] or 0.0) - (their["score"] or 0.0))
            points, score = max(points, apart), max(score, unlike)
            if compare_figures and not apart <= POINTS_TOLERANCE * float(face_sizes(places[:1])[0]):
                differences.append(f"{title}, face {track}: points are {apart:.2f} pixels apart")
            if compare_figures and not unlike <= SCORE_TOLERANCE:
                differences.append(f"{title}, face {track}: scores differ by {unlike:.3f}")
    return differences, Gap(round(points, 3), round(score, 5))


def pixel_gap(first: Sequence[Frame], second: Sequence[Frame]) -> tuple[int, float]:
    """Largest and mean absolute difference of the pixels of frames."""
    gaps = [np.abs(a.image.astype(np.int16) - b.image) for a, b in zip(first, second, strict=False)]
    return max(int(gap.max()) for gap in gaps), round(float(np.mean([gap.mean() for gap in gaps])), 3)


def prediction_table(prediction: CameraPrediction) -> str:
    """The prediction as text."""
    width, height = prediction.size
    named = [name for name in PARTS if any(name in stage.parts for stage in prediction.stages)]
    rows = [("predicted, a frame", "ms", "error band", "instructions", *named)]
    for stage in prediction.stages:
        shares = (f"{stage.parts.get(name, 0) / max(1, stage.instructions):.0%}" for name in named)
        rows.append((stage.name, f"{stage.ms.value:.2f}", _band(stage.ms), _millions(stage.instructions), *shares))
    speeds = [
        ("faces", "frames", "embedded", "ms", "error band", "slowest ms", "frames a second", "error band"),
        *(
            (
                *(str(rate.faces), str(rate.frames), str(rate.embedded), f"{rate.ms.value:.1f}", _band(rate.ms)),
                *(f"{rate.slowest_ms:.1f}", f"{rate.fps.value:.1f}", _band(rate.fps)),
            )
            for rate in prediction.rates
        ),
    ]
    same = "none" if not prediction.differences else ""
    return "\n".join(
        [
            f"{prediction.device} at {prediction.clock_mhz:g} MHz, one thread, {prediction.frames} frames of "
            f"{width}x{height} after {prediction.warmup} to warm up",
            grid(rows),
            "without source, which is the decoding of a clip in software:",
            grid(speeds),
            f"differences from this machine: {same}".rstrip(),
            *(f"  {line}" for line in prediction.differences),
            f"points at most {prediction.gap.points:.2f} pixels apart, scores {prediction.gap.score:.4f}; "
            f"where each decodes for itself (pixels differ by {prediction.decoding[1]:.2f} of 255) "
            f"{prediction.decoded_gap.points:.2f} and {prediction.decoded_gap.score:.4f}",
        ]
    )


def _band(estimate: Estimate) -> str:
    return f"{estimate.low:.1f} to {estimate.high:.1f}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"


def _trial(request: CameraRequest, folder: Path) -> Trial:
    gallery = None
    if request.snapshot is not None:
        gallery = str(folder / "gallery.npz")
        write_gallery(request.snapshot, Path(gallery))
    options = {option.name: getattr(request, option.name) for option in fields(TrialOptions)}
    paths = {name: str(Path(options[name]).resolve()) for name in ("source", "detector", "recognizer")}
    return Trial(**options | paths, gallery=gallery, pictures=str(folder / "pictures.npz"))
