"""One synthetic photo, from its two seeds."""

from __future__ import annotations

from slimcam.training.data.drawing import features, head, photo
from slimcam.training.data.drawing.canvas import Sheet, View
from slimcam.training.data.drawing.traits import Person, Shot, sample_person, sample_shot
from slimcam.training.data.images import Image

DRAWING_VERSION = 1
"""Raise it with every change of the drawing that changes a pixel: rendered faces are cached under it."""


def draw_face(identity_seed: int, image_seed: int) -> Image:
    """Draws a photo of a person: `(112, 112, 3)` uint8 RGB, aligned to the ArcFace template.

    Args:
        identity_seed: who; not negative.
        image_seed: which photo of them; not negative.

    Raises:
        ValueError: a seed is negative.
    """
    if identity_seed < 0 or image_seed < 0:
        raise ValueError(
            f"seeds of a rendered face must not be negative; got identity {identity_seed}, image {image_seed}"
        )
    return draw(sample_person(identity_seed), sample_shot(identity_seed, image_seed))


def draw(person: Person, shot: Shot) -> Image:
    """Draws a given person under given conditions; see `draw_face`."""
    view = View(person, shot)
    background = photo.draw_background(shot)
    sheet = Sheet(background.copy())
    head.draw_head(sheet, view, person, shot)
    features.draw_marks(sheet, view, person)
    features.draw_nostrils(sheet, view, person)
    features.model_skin(sheet, view, person, shot)
    features.draw_beard(sheet, view, person, shot)
    # Under mouth, eyes and hair, which have their own colors.
    sheet.press()
    features.draw_mouth(sheet, view, person, shot)
    features.draw_eyes(sheet, view, person, shot)
    features.draw_brows(sheet, view, person, shot)
    head.draw_hair(sheet, view, person, shot)
    photo.draw_glasses(sheet, view, person, shot)
    sheet.press()
    sheet.pixels = photo.light(sheet.pixels, background, view, shot)
    photo.draw_occluder(sheet, shot)
    return photo.expose(sheet.pixels, shot)
