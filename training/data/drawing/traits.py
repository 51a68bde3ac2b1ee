"""Who is rendered and how they are photographed: the random factors of a synthetic face.

A `Person` holds everything that stays with an identity, a `Shot` everything that changes from photo to photo.
Lengths are in the pixels of an aligned 112x112 crop, in the face frame: the origin between nose and eyes of the
ArcFace template at (56, 72), x to the right, y down, z towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float64]

HAIRLINES = ("round", "widow", "receding", "fringe", "left part", "right part", "curtain", "bald", "buzz")
HAIR_LENGTHS = ("short", "medium", "long")
BEARDS = ("none", "stubble", "goatee", "full")
MUSTACHES = ("none", "thin", "thick", "handlebar")

# Ends and middle of the skin range from very light to very dark, RGB.
_SKIN = np.array([(246, 214, 194), (222, 172, 138), (176, 122, 86), (116, 76, 53), (80, 53, 40)], dtype=np.float64)
_HAIR = np.array(
    [(28, 22, 22), (58, 38, 28), (96, 62, 38), (140, 98, 58), (190, 150, 92), (150, 66, 32), (150, 148, 146)],
    dtype=np.float64,
)
_IRIS = np.array([(58, 36, 22), (98, 62, 32), (112, 104, 56), (78, 112, 84), (78, 112, 148), (120, 132, 140)], float)


@dataclass(frozen=True)
class Person:
    """What makes an identity. Colors are RGB 0..255; unnamed figures are pixels, or fractions where `0..1` is said."""

    skin: Color
    hair: Color
    iris: Color
    lips: Color
    # Head: half-widths at three heights, the chin's half-width, the chin's and the hairline's y.
    temple: float
    cheek: float
    jaw: float
    chin_width: float
    chin: float
    hairline: float
    depth: float
    cheekbones: float
    ears: float
    ear_angle: float
    # Eyes: x of the center, y, half-width, half-height, rise of the outer corner, iris radius, fold and bags 0..1.
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_radius: float
    lid_fold: float
    eye_bags: float
    lashes: float
    eye_asymmetry: float
    # Brows: height above the eye, thickness, half-length, arch, rise of the outer end, shift of the inner end.
    brow_height: float
    brow_thickness: float
    brow_length: float
    brow_arch: float
    brow_tilt: float
    brow_inner: float
    brow_density: float
    # Nose: half-width of the wings, of the bridge, y of the base, protrusion, radius of the tip, nostril size 0..1.
    nose_width: float
    nose_bridge: float
    nose_base: float
    nose_height: float
    nose_tip: float
    nostrils: float
    # Mouth: half-width, y, thickness of both lips, depth of the bow, rise of the corners.
    mouth_width: float
    mouth_y: float
    upper_lip: float
    lower_lip: float
    cupid_bow: float
    mouth_tilt: float
    chin_cleft: float
    # Hair and beard.
    hairline_kind: str
    hair_length: str
    hair_volume: float
    hair_curl: float
    beard: str
    mustache: str
    # Skin marks: freckles as (x, y, radius), moles as (x, y, radius), a scar as (x, y, angle, length) or empty.
    freckles: NDArray[np.float64]
    moles: NDArray[np.float64]
    scar: NDArray[np.float64]
    age: float
    blush: float
    texture_seed: int


@dataclass(frozen=True)
class Shot:
    """What changes from photo to photo. Angles in radians; expressions 0..1 unless said."""

    yaw: float
    pitch: float
    distance: float
    jitter: tuple[float, float, float, float]  # shift x, y in pixels, log scale, roll
    smile: float  # -1 (sad) .. 1
    mouth_open: float
    brow_raise: float  # -1 (frown) .. 1
    eyes_closed: float
    gaze: tuple[float, float]
    light: NDArray[np.float64]  # unit vector towards the light
    light_strength: float
    light_color: Color  # factors about 1
    exposure: float
    contrast: float
    saturation: float
    glasses: str
    glasses_shape: tuple[float, float, float]  # half-width, half-height, roundness 0..1
    glasses_color: Color
    hat: bool
    occluder: str
    cloth: Color
    lipstick: float
    blur: float
    motion: float
    noise: float
    low_resolution: float
    jpeg: int
    seed: int


def sample_person(seed: int) -> Person:
    """Draws the identity of a seed; the same seed is the same person."""
    rng = np.random.default_rng([1, seed])

    def vary(mean: float, spread: float) -> float:
        return mean + spread * float(np.clip(rng.normal(), -2.2, 2.2))

    feminine = bool(rng.random() < 0.5)
    masculine = 0.0 if feminine else 1.0
    age = float(rng.beta(1.3, 2.0))
    tone = float(rng.beta(1.0, 1.3)) * (len(_SKIN) - 1)
    skin = _between(_SKIN, tone) * np.exp(rng.normal(0, 0.025, 3))
    kind = int(rng.choice(len(_HAIR) - 1, p=_hair_weights(tone)))
    hair = _HAIR[kind] * np.exp(rng.normal(0, 0.16)) * np.exp(rng.normal(0, 0.04, 3))
    gray = float(np.clip((age - 0.55) * 2.4 + rng.normal(0, 0.25), 0, 1)) if age > 0.45 else 0.0
    hair = hair * (1 - gray) + _HAIR[-1] * np.exp(rng.normal(0, 0.2)) * gray
    iris = _between(_IRIS, float(rng.beta(0.8, 1.0 + tone)) * (len(_IRIS) - 1)) * np.exp(rng.normal(0, 0.08, 3))
    lips = skin * np.array([0.88, 0.62, 0.62]) * np.exp(rng.normal(0, 0.07, 3)) + np.array([8.0, 0, 4])
    cheek = vary(37.5, 2.0)
    mouth_y = vary(20.5, 1.5)
    eye_height = vary(4.6, 0.75)
    lines = ("round", "widow", "fringe", "left part", "right part", "curtain")
    hairline_kind = str(rng.choice(lines if feminine or age < 0.3 else HAIRLINES))
    lengths = (0.2, 0.3, 0.5) if feminine else (0.8, 0.15, 0.05)
    length = "short" if hairline_kind in ("bald", "buzz") else str(rng.choice(HAIR_LENGTHS, p=lengths))
    freckled = rng.random() < (0.35 if tone < 2 else 0.1)
    return Person(
        skin=skin,
        hair=hair,
        iris=iris,
        lips=lips,
        temple=cheek + vary(-2.0, 1.2),
        cheek=cheek,
        jaw=cheek * vary(0.78 + 0.05 * masculine, 0.045),
        chin_width=vary(10.5 + 2.5 * masculine, 2.2),
        chin=mouth_y + vary(19 + 1.2 * masculine, 1.7),
        hairline=vary(-55, 4),
        depth=vary(37, 2),
        cheekbones=vary(0.5, 0.3),
        ears=vary(11, 1.6),
        ear_angle=vary(3.5, 1.6),
        eye_x=vary(17.6, 1.1),
        eye_y=vary(-20.4, 0.8),
        eye_width=vary(8.3, 0.8),
        eye_height=eye_height,
        eye_tilt=vary(1.0, 1.1),
        iris_radius=vary(4.0, 0.3),
        lid_fold=vary(0.5, 0.35),
        eye_bags=float(np.clip(vary(0.2 + 0.6 * age, 0.25), 0, 1)),
        lashes=vary(1.5 - 0.7 * masculine, 0.3),
        eye_asymmetry=vary(0, 0.5),
        brow_height=vary(9.8 - 0.8 * masculine, 1.2),
        brow_thickness=vary(1.7 + 0.8 * masculine, 0.5),
        brow_length=vary(10.4, 1.1),
        brow_arch=vary(2.2, 1.1),
        brow_tilt=vary(0.6, 1.2),
        brow_inner=vary(0, 1.0),
        brow_density=float(np.clip(vary(0.75, 0.18), 0.25, 1)),
        nose_width=vary(8.6 + 0.8 * masculine + 0.4 * tone, 1.1),
        nose_bridge=vary(3.6, 0.7),
        nose_base=mouth_y + vary(-13.3, 1.3),
        nose_height=vary(11, 1.8),
        nose_tip=vary(3.8, 0.7),
        nostrils=float(np.clip(vary(0.55, 0.25), 0.1, 1)),
        mouth_width=vary(14.2, 1.5),
        mouth_y=mouth_y,
        upper_lip=vary(2.7 + 0.25 * tone - 0.5 * masculine, 0.75),
        lower_lip=vary(3.9 + 0.25 * tone - 0.4 * masculine, 0.85),
        cupid_bow=vary(0.9, 0.45),
        mouth_tilt=vary(0.3, 0.8),
        chin_cleft=float(rng.random()) if rng.random() < 0.25 else 0.0,
        hairline_kind=hairline_kind,
        hair_length=length,
        hair_volume=vary(7, 2.2),
        hair_curl=float(rng.random()) if rng.random() < 0.2 + 0.12 * tone else 0.0,
        beard="none" if feminine else str(rng.choice(BEARDS, p=(0.43, 0.22, 0.14, 0.21))),
        mustache="none" if feminine else str(rng.choice(MUSTACHES, p=(0.55, 0.17, 0.18, 0.1))),
        freckles=_marks(rng, int(rng.integers(15, 70)) if freckled else 0, (0.35, 0.75)),
        moles=_marks(rng, int(rng.choice(4, p=(0.45, 0.3, 0.15, 0.1))), (0.7, 1.5)),
        scar=rng.uniform((-30, -30, 0, 4), (30, 30, np.pi, 12)) if rng.random() < 0.1 else np.zeros(0),
        age=age,
        blush=float(rng.random()),
        texture_seed=int(rng.integers(2**31)),
    )


def sample_shot(identity_seed: int, image_seed: int) -> Shot:
    """Draws the photo of a pair of seeds; photos of two people never share their conditions."""
    rng = np.random.default_rng([2, identity_seed, image_seed])
    azimuth, elevation = rng.normal(0, 0.8), rng.normal(-0.35, 0.5)
    light = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warm, tint = rng.normal(0, 0.09), rng.normal(0, 0.03)
    hard = rng.random()
    return Shot(
        yaw=float(np.clip(rng.normal(0, 0.26), -0.6, 0.6)),
        pitch=float(np.clip(rng.normal(0, 0.15), -0.36, 0.36)),
        distance=float(rng.uniform(220, 700)),
        jitter=(rng.normal(0, 1.6), rng.normal(0, 1.6), rng.normal(0, 0.035), rng.normal(0, 0.04)),
        smile=float(np.clip(rng.normal(0.3, 0.5), -1, 1)),
        mouth_open=float(rng.beta(1, 2.5)) if rng.random() < 0.45 else 0.0,
        brow_raise=float(np.clip(rng.normal(0, 0.45), -1, 1)),
        eyes_closed=1.0 if rng.random() < 0.05 else float(rng.beta(1, 5)),
        gaze=(float(rng.normal(0, 0.4)), float(rng.normal(0, 0.25))),
        light=light,
        light_strength=float(rng.uniform(0.15, 0.95)),
        light_color=np.exp(np.array([warm, tint, -warm])),
        exposure=float(np.exp(rng.normal(-0.05, 0.22))),
        contrast=float(np.exp(rng.normal(-0.05, 0.18))),
        saturation=0.0 if rng.random() < 0.06 else float(np.exp(rng.normal(-0.05, 0.22))),
        glasses=str(rng.choice(("none", "clear", "sun"), p=(0.76, 0.19, 0.05))),
        glasses_shape=(float(rng.uniform(11, 14)), float(rng.uniform(6.5, 11)), float(rng.random())),
        glasses_color=rng.uniform(10, 110) * np.exp(rng.normal(0, 0.3, 3)),
        hat=bool(rng.random() < 0.09),
        occluder=str(rng.choice(("none", "edge", "bar", "hand"), p=(0.85, 0.07, 0.04, 0.04))),
        cloth=rng.uniform(15, 240, 3),
        lipstick=float(rng.random()) if rng.random() < 0.12 else 0.0,
        blur=float(rng.exponential(0.35)) + 0.25,
        motion=float(rng.uniform(2, 5)) if rng.random() < 0.08 else 0.0,
        noise=float(rng.uniform(1, 5) + (10 * rng.random() if hard > 0.85 else 0)),
        low_resolution=float(rng.uniform(0.35, 0.8)) if rng.random() < 0.2 else 1.0,
        jpeg=int(rng.integers(28, 96)),
        seed=int(rng.integers(2**31)),
    )


def _between(palette: Color, position: float) -> Color:
    """The color at a fractional index of a palette."""
    low = min(int(position), len(palette) - 2)
    return np.asarray(palette[low] * (low + 1 - position) + palette[low + 1] * (position - low))


def _hair_weights(tone: float) -> Color:
    """Dark hair is commoner with dark skin."""
    weights = np.array([0.22, 0.24, 0.2, 0.14, 0.12, 0.08])
    weights = weights * np.exp(-tone * np.array([0.0, 0.15, 0.6, 1.0, 1.2, 1.0]))
    return np.asarray(weights / weights.sum())


def _marks(rng: np.random.Generator, count: int, radius: tuple[float, float]) -> NDArray[np.float64]:
    """`(count, 3)` marks on cheeks, nose and chin: x, y, radius."""
    marks = rng.normal((0, -2, 0), (16, 11, 0), (count, 3))
    marks[:, 0] = np.clip(marks[:, 0], -27, 27)
    marks[:, 2] = rng.uniform(*radius, count)
    return marks
