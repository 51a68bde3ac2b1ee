"""A video of rendered people who come, go and come back, to try a camera on: no download, and no consent to ask for.

`python -m slimcam.training.tools.demo_clip FOLDER` writes `clip.mp4`, pictures to enroll some of the people with in
`people/NAME/1.png` and so on, and `truth.json`, which tells whose face is where in which frame. It takes 10 to 40 s.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from slimcam.deploy.common.files import atomic, write_text
from slimcam.deploy.vision.align import face_boxes, face_sizes
from slimcam.training.data.detection.degradation import noisy
from slimcam.training.data.detection.pasting import Canvas, Paste, ellipse, moved, turn
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.detection.scene import Scene
from slimcam.training.data.drawing.portrait import draw
from slimcam.training.data.drawing.traits import Person, Shot, sample_person, sample_shot
from slimcam.training.data.images import Image

NAMES = (
    *("Robin Keller", "Sasha Moreau", "Kim Andersen", "Noa Duarte", "Alex Okafor", "Jules Tanaka"),
    *("Mika Novak", "Charlie Haas", "Toni Ferreira", "Jamie Lindqvist"),
)
"""Of the people with pictures to enroll."""

STILLS = 3
STILL_SIDE = 320

_APPEARANCE = 5.0
"""Seconds, about."""

_CLIP_BIT = 1 << 31
"""Set in the seeds of these people, which so are never those that a recognizer was trained or tested on."""


@dataclass(frozen=True)
class ClipConfig:
    """What the clip shows.

    Attributes:
        seconds: Length of the video.
        fps: Frames a second.
        width: Width of a frame, pixels.
        height: Height of a frame, pixels.
        people: Number of people to enroll.
        unknown: Number of further people, of whom there are no pictures.
        seed: Seed; others give other people and another room.
    """

    seconds: float = 20.0
    fps: int = 10
    width: int = 640
    height: int = 360
    people: int = 3
    unknown: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.people <= len(NAMES) and self.unknown >= 0 and self.people + self.unknown >= 1):
            raise ValueError(
                f"a clip shows 1 person at the least, and up to {len(NAMES)} of them can be enrolled; "
                f"got people={self.people} and unknown={self.unknown}"
            )
        if not (2 <= self.seconds <= 3600 and 1 <= self.fps <= 60 and self.seed >= 0):
            raise ValueError(
                f"a clip takes 2 to 3600 seconds of 1 to 60 frames, and a seed from 0 on; "
                f"got {self.seconds}, {self.fps} and {self.seed}"
            )
        if min(self.width, self.height) < 128 or self.width % 2 or self.height % 2 or self.width < self.height:
            raise ValueError(
                f"a clip is 128x128 or more, even, and no higher than it is wide; got {self.width}x{self.height}"
            )


@dataclass(frozen=True)
class Member:
    """Somebody in the clip; drawn under another shot each time."""

    name: str
    person: Person
    stills: tuple[Shot, ...]
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Appearance:
    """A person comes in from a side, stays for a while, and goes back or on to the other side.

    Attributes:
        begin: Second in which the person appears.
        end: Second in which the person is gone.
        side: -1 comes from the left, 1 from the right.
        through: Whether they walk through the whole picture, and pass others.
        size: Size of the face, pixels.
        height: Vertical position of the face, share of the picture's height.
        sway: Phase of the small movements, radians.
    """

    member: Member
    shot: Shot
    begin: float
    end: float
    side: int
    through: bool
    size: float
    height: float
    sway: float


def write_clip(folder: Path, config: ClipConfig) -> Path:
    """Writes the video, the pictures and the truth into a folder; the same ones for the same config.

    Returns:
        The video: `clip.mp4`, or `clip.avi` where this OpenCV cannot write MPEG-4.

    Raises:
        OSError: a file cannot be written.
        ValueError: the folder has pictures of people who are not of this clip.
    """
    others = {path.name for path in (folder / "people").glob("*")} - set(NAMES[: config.people])
    if others:
        raise ValueError(f"{folder / 'people'}: {', '.join(sorted(others))} is not of this clip; take another folder")
    cast = _cast(config)
    enrolled = {}
    for member in cast[: config.people]:
        paths = [folder / "people" / member.name / f"{number}.png" for number in range(1, STILLS + 1)]
        for path, shot in zip(paths, member.stills, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_picture(path, _still(member.person, shot))
        enrolled[member.name] = [path.relative_to(folder).as_posix() for path in paths]
    truth: list[dict[str, object]] = []
    video = _write_video(folder, config, _seen(_frames(cast, config), truth))
    facts = {"video": video.name, "fps": config.fps, "enrolled": enrolled, "frames": truth}
    write_text(folder / "truth.json", json.dumps(facts) + "\n")
    return video


def schedule(cast: list[Member], config: ClipConfig) -> list[Appearance]:
    """Who appears when, in order of time: one at a time on each half of the picture, everybody in turn."""
    rounds = max(1, round(config.seconds / _APPEARANCE))
    length = config.seconds / rounds
    # The right half is half a turn behind; alone, nobody is in both.
    begins = [length * half / 2 for half in range(2 * rounds - 1) if half % 2 == 0 or len(cast) > 1]
    appearances = []
    for number, begin in enumerate(begins):
        rng = np.random.default_rng((config.seed, 1, number))
        member = cast[number % len(cast)]
        appearances.append(
            Appearance(
                member=member,
                shot=member.shots[number // len(cast) % len(member.shots)],
                begin=begin,
                end=begin + 0.95 * length,
                side=-1 if round(2 * begin / length) % 2 == 0 else 1,
                through=number % 4 == 3,
                size=config.height * float(rng.uniform(0.17, 0.31)),
                height=float(rng.uniform(0.36, 0.5)),
                sway=float(rng.uniform(0, 2 * np.pi)),
            )
        )
    return appearances


def _cast(config: ClipConfig) -> list[Member]:
    names = [*NAMES[: config.people], *(f"unknown-{number}" for number in range(1, config.unknown + 1))]
    appearances = math.ceil(2 * config.seconds / _APPEARANCE / len(names)) + 1
    cast = []
    for number, name in enumerate(names):
        identity = config.seed << 33 | _CLIP_BIT | number
        shots = (shot for shot in map(sample_shot, itertools.repeat(identity), itertools.count()) if _fair(shot))
        stills = tuple(itertools.islice(shots, STILLS))
        cast.append(Member(name, sample_person(identity), stills, tuple(itertools.islice(shots, min(appearances, 20)))))
    return cast


def _fair(shot: Shot) -> bool:
    """Whether a face is well seen: a camera that fails on this clip is at fault itself."""
    clear = shot.occluder == "none" and shot.glasses != "sun" and shot.eyes_closed < 0.6 and not shot.hat
    sharp = shot.low_resolution == 1 and not shot.motion and shot.blur < 0.9 and shot.noise < 6 and shot.jpeg > 45
    lit = shot.saturation > 0.5 and 0.85 < shot.exposure < 1.15 and shot.light_strength < 0.6
    return clear and sharp and lit and abs(shot.yaw) < 0.25 and abs(shot.pitch) < 0.15


def _frames(cast: list[Member], config: ClipConfig) -> Iterator[tuple[Scene, tuple[str, ...]]]:
    """Each frame with the points of the faces in it, and who they are."""
    appearances = schedule(cast, config)
    room = _room(config.height, config.width, np.random.default_rng((config.seed, 2)))
    for number in range(round(config.seconds * config.fps)):
        seconds = number / config.fps
        canvas = Canvas(room.copy())
        # Larger ones are nearer, and cover others.
        present = sorted((one for one in appearances if one.begin <= seconds < one.end), key=lambda one: one.size)
        names = tuple([one.member.name for one in present if _lay(canvas, one, seconds)])
        points = np.stack(canvas.points) if canvas.points else np.zeros((0, 5, 2), np.float32)
        grainy = noisy(canvas.pixels, 2.0, np.random.default_rng((config.seed, 3, number)))
        yield Scene(grainy, points), names


def _seen(frames: Iterator[tuple[Scene, tuple[str, ...]]], truth: list[dict[str, object]]) -> Iterator[Image]:
    """The images of frames; what is in them is added to the truth."""
    for scene, names in frames:
        faces = [
            {"person": name, "points": np.round(points.astype(float), 2).tolist()}
            for name, points in zip(names, scene.points, strict=True)
        ]
        truth.append({"faces": faces})
        yield scene.image


def _lay(canvas: Canvas, one: Appearance, seconds: float) -> bool:
    """Draws somebody at a moment; whether the middle of the face is in the picture."""
    height, width = canvas.pixels.shape[:2]
    share = (seconds - one.begin) / (one.end - one.begin)
    phase = one.sway + 1.1 * seconds
    shot = replace(
        one.shot, yaw=one.shot.yaw + 0.14 * math.sin(phase), pitch=one.shot.pitch + 0.05 * math.sin(1.7 * phase)
    )
    size = one.size * (1 + 0.12 * math.sin(0.8 * phase))
    x = width / 2 + one.side * width * _way(share, one.through) + 0.03 * width * math.sin(phase)
    y = height * (one.height + 0.025 * math.sin(1.3 * phase))
    return _paste(canvas, one.member.person, shot, (x, y), size, 5.0 * math.sin(0.9 * phase))


def _way(share: float, through: bool) -> float:
    """Places from 0, the middle, to the side that they come from: there, in their half, and back; or -1 beyond."""
    if through:
        return 0.72 - 1.44 * share
    inside = min(share, 1 - share) / 0.3
    return 0.72 - 0.48 * _smooth(min(inside, 1.0))


def _smooth(share: float) -> float:
    """0..1 to 0..1, beginning and ending slowly."""
    return share * share * (3 - 2 * share)


def _paste(canvas: Canvas, person: Person, shot: Shot, to: tuple[float, float], size: float, degrees: float) -> bool:
    """Draws a head and its shoulders on a canvas; whether the middle of the face is in the picture."""
    image, points = draw(person, shot), rendered_points(person, shot)
    height, width = canvas.pixels.shape[:2]
    matrix = turn(points.mean(axis=0), degrees, np.array(to), size / float(face_sizes(points)[0]))
    # In sizes of the face, below its middle: half the width and height of the neck, and of the shoulders.
    for below, half, color in ((0.65, (0.33, 0.4), 0.8 * person.skin), (1.9, (1.0, 1.2), shot.cloth)):
        outline = ellipse(np.array([to[0], to[1] + below * size]), np.array(half) * size)
        part = Paste(matrix, outline, 0.06 * size, height, width)
        if not part.empty:
            canvas.lay(part, np.full((*part.alpha.shape, 3), np.clip(color, 0, 255), np.uint8))
    x, y, w, h = face_boxes(points)[0].astype(float)
    head = ellipse(np.array([x + w / 2, y + 0.43 * h]), np.array([1.24 * w / 2, 1.18 * h / 2]))
    head = np.clip(head, 0, np.array(image.shape[1::-1]) - 1.0)
    paste = Paste(matrix, moved(head, matrix), 0.08 * size, height, width)
    if paste.empty:
        return False
    placed = moved(points, matrix).astype(np.float32)
    middle = placed.mean(axis=0)
    inside = bool(np.all(middle >= 0) and np.all(middle <= (width - 1, height - 1)))
    canvas.lay(paste, paste.warp(image), placed if inside else None)
    return inside


def _still(person: Person, shot: Shot) -> Image:
    """A picture to enroll somebody with."""
    rng = np.random.default_rng((4, shot.seed))
    plain = np.full((STILL_SIDE, STILL_SIDE, 3), rng.integers(120, 200, 3), np.uint8)
    canvas = Canvas(plain)
    middle = (STILL_SIDE / 2, 0.45 * STILL_SIDE)
    _paste(canvas, person, shot, middle, 105.0, float(rng.uniform(-6, 6)))
    return canvas.pixels


def _room(height: int, width: int, rng: np.random.Generator) -> Image:
    """A wall, a floor, and things on the wall: `(height, width, 3)`."""
    wall = rng.uniform(120, 190) + rng.normal(0, 14, 3)
    corners = np.clip(wall + rng.normal(0, 16, (2, 3, 1)), 0, 255).astype(np.uint8)
    room = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    floor = int(0.78 * height)
    room[floor:] = np.clip(0.55 * wall + rng.normal(0, 10, 3), 0, 255).astype(np.uint8)
    for _ in range(5):
        wide, high = (rng.uniform(0.08, 0.24, 2) * height).astype(int).tolist()
        left, top = int(rng.uniform(0, width - wide)), int(rng.uniform(0.03, 0.4) * height)
        color = rng.uniform(30, 235, 3)
        cv2.rectangle(room, (left, top), (left + wide, top + high), (0.5 * color).tolist(), -1)
        cv2.rectangle(room, (left + 4, top + 4), (left + wide - 4, top + high - 4), color.tolist(), -1)
    return np.asarray(cv2.GaussianBlur(room, (0, 0), 1.2))


class _NotEncodedError(OSError):
    """This OpenCV does not write that kind of video."""


def _write_video(folder: Path, config: ClipConfig, frames: Iterator[Image]) -> Path:
    for name, code in (("clip.mp4", "mp4v"), ("clip.avi", "MJPG")):
        with contextlib.suppress(_NotEncodedError), atomic(folder / name) as partial:
            _encode(partial, code, config, frames)
            return folder / name
    raise OSError(f"{folder}: this OpenCV writes neither MPEG-4 nor Motion JPEG, or not in this folder")


def _encode(path: Path, code: str, config: ClipConfig, frames: Iterator[Image]) -> None:
    fourcc = cv2.VideoWriter_fourcc(*code)  # type: ignore[attr-defined]  # OpenCV's types do not know it
    writer = cv2.VideoWriter(str(path), fourcc, config.fps, (config.width, config.height))
    if not writer.isOpened():
        raise _NotEncodedError
    written = 0
    for image in frames:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        written += 1
    writer.release()
    # The writer is silent about a full disk.
    if cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != written:
        raise OSError(f"{path.parent}: the video could not be written whole; is there space left?")


def _write_picture(path: Path, image: Image) -> None:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic(path) as partial:
        partial.write_bytes(encoded.tobytes())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.demo_clip", description="A video of rendered people."
    )
    parser.add_argument("folder", type=Path)
    for field in fields(ClipConfig):
        kind = type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default, help=f"{field.default} by default")
    options = vars(parser.parse_args(arguments))
    folder = options.pop("folder")
    try:
        print(write_clip(folder, ClipConfig(**options)))
    except (ValueError, OSError) as error:
        parser.exit(1, f"clip: {error}\n")


if __name__ == "__main__":
    main()
