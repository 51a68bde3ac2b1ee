"""Rendered faces and where their five points are: people for scenes without a photograph of anybody."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.letterbox import letterbox
from slimcam.training.data.detection.compose import ComposeConfig, arrange
from slimcam.training.data.detection.scene import Float, Picture, Sources
from slimcam.training.data.drawing.canvas import SCALE, View
from slimcam.training.data.drawing.traits import Person, Shot, sample_person, sample_shot
from slimcam.training.data.images import IMAGE_SIZE
from slimcam.training.data.recognition import synthetic
from slimcam.training.data.recognition.synthetic import SyntheticConfig

IMAGES_PER_PERSON = 4


def rendered_frames(height: int, width: int, count: int) -> NDArray[np.uint8]:
    """Rendered faces in the middle of gray frames, `(count, height, width, 3)`: the same on every machine."""
    frames = np.full((count, height, width, 3), 128, dtype=np.uint8)
    for person, frame in enumerate(frames):
        face = letterbox(synthetic.draw_face(person, 0), min(height, IMAGE_SIZE), min(width, IMAGE_SIZE))[0]
        top, left = (height - face.shape[0]) // 2, (width - face.shape[1]) // 2
        frame[top : top + face.shape[0], left : left + face.shape[1]] = face
    return frames


def rendered_points(person: Person, shot: Shot) -> Float:
    """Where eyes, nose tip and mouth corners of a rendered face are, `(5, 2)`; see `slimcam.training.data.drawing`."""
    eyes = [(side * person.eye_x, person.eye_y + 0.6 * side * person.eye_asymmetry) for side in (-1, 1)]
    reach = person.mouth_width * (1 + 0.16 * max(shot.smile, 0) - 0.10 * shot.mouth_open)
    corner = person.mouth_y - person.mouth_tilt - 2.2 * shot.smile + 2.25 * shot.mouth_open
    features = np.array([*eyes, (0.0, person.nose_base - 5), (-reach, corner), (reach, corner)])
    lift = np.array([0.0, 0.0, person.nose_height, 1.5, 1.5])
    return ((View(person, shot).place(features, lift) + 0.5) / SCALE - 0.5).astype(np.float32)


def fingerprint(people: int, seed: int) -> str:
    """A digest of what the pictures of rendered people are made of."""
    return synthetic.fingerprint(_config(people, seed))


def rendered_pictures(people: int, seed: int, cache: Path) -> list[Picture]:
    """The pictures of rendered people, person by person."""
    faces = synthetic.load(_config(people, seed), cache).train
    pictures = []
    for number in range(len(faces)):
        # Identities as `synthetic.load` counts them.
        identity, shot = seed << 33 | number // IMAGES_PER_PERSON, number % IMAGES_PER_PERSON
        points = rendered_points(sample_person(identity), sample_shot(identity, shot))
        pictures.append(Picture(faces.images[number], points))
    return pictures


def portrait(sources: Sources, seed: tuple[int, ...]) -> Picture:
    """A picture of one face as large as in a photo of LFW."""
    config = ComposeConfig(250, 250, 60.0, 120.0, 1)
    scenes = (arrange(sources, config, np.random.default_rng((*seed, attempt))) for attempt in itertools.count())
    scene = next(scene for scene in scenes if len(scene.points))
    return Picture(scene.image, scene.points[0])


def _config(people: int, seed: int) -> SyntheticConfig:
    """All people of the scenes; the test set of the recognizers, which is not used here, as small as can be."""
    return SyntheticConfig(
        identities=people,
        images_per_identity=IMAGES_PER_PERSON,
        test_identities=2,
        test_images_per_identity=2,
        test_pairs=4,
        seed=seed,
    )
