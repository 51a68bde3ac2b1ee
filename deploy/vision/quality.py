"""Quality of a view of a face: whether it is fit to be recognized by, and which of two views is the better one.

A crop that is too small, too blurred or seen from the side has an embedding too, which resembles that of somebody else:
such views are neither enrolled nor matched. The measures follow from the five points and from a small aligned
crop, so that the gate costs a fraction of an embedding.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.vision.align import CROP_SIZE, TEMPLATE, align, check_frame, face_boxes, face_sizes

_SIZE = 40
"""Of the crop that is measured: of half the detail of the recognizer's, for what is finer is mostly noise."""

_FACE = ((18, 110), (20, 92))
_INNER = tuple(slice(round(low * _SIZE / CROP_SIZE), round(high * _SIZE / CROP_SIZE)) for low, high in _FACE)
"""Rows and columns of the face in it, see `align.face_corners`; around it is background."""

_NOSE_DOWN = 0.56
"""Where the nose of a face seen from the front is, from its eyes (0) to its mouth (1): the median of 1,549 photos of
LFW, of which 98 % lie in 0.44..0.69."""

_NOSE_OUT = 0.5
"""How far the tip of a nose stands out, in distances of the eyes (about 31 of 63 mm) or of eyes and mouth."""

_SATURATED = 250

_TEMPLATE = [complex(x, y) for x, y in (TEMPLATE - TEMPLATE.mean(axis=0)).tolist()]


class QualityIssue(Choice):
    """Why a view is not fit to be recognized by, as it is reported."""

    SMALL = "small"
    CUT = "cut"
    """A part of the face is outside of the frame."""
    TURNED = "turned"
    """Yaw or pitch is too large."""
    TILTED = "tilted"
    """Roll is too large."""
    DARK = "dark"
    BRIGHT = "bright"
    """Over-exposed: too many pixels are saturated."""
    FAINT = "faint"
    """Low contrast."""
    BLURRED = "blurred"


RENAMED_OPTIONS = {
    "smallest": "min_size",
    "inside": "min_inside",
    "turned": "max_yaw_pitch",
    "tilted": "max_roll",
    "darkest": "min_brightness",
    "faintest": "min_contrast",
    "white": "max_overexposed",
    "sharpness": "min_sharpness",
}
"""Former names of options of `QualityConfig`, which work for one version more."""


@dataclass
class QualityConfig:
    """What a view of a face must be.

    Of the 1,549 photos of LFW that the detector is evaluated by, these defaults reject 0.8 % (0.7 % turned, 0.1 %
    blurred). Of 300 of them made worse they reject: blurred with a Gaussian of sigma 2 pixels of the aligned crop 67 %,
    of 3 pixels all; by a motion of 9 pixels 83 %, of 15 pixels all; with 20 pixels of width all, with 32 pixels 5 %;
    with 0.3 of the light 78 %, with 0.2 all. The cosines below are those of the committed recognizer's embeddings of
    worse views with those of the photos.

    Attributes:
        min_size: Least width in pixels, see `align.face_sizes`. The cosine is 0.84 at 24 pixels, 0.91 at 32.
        min_inside: Least share of the face's box that lies in the frame. The cosine is 0.8 where a fifth lacks at a
            side or below, 0.5 where it lacks above.
        max_yaw_pitch: Largest yaw and pitch in degrees; see `pose`.
        max_roll: Largest roll in degrees. Alignment undoes it; detectors find little beyond.
        min_brightness: Least mean of the luminance, 0..255. The cosine is 0.4 for a mean of 30..40.
        min_contrast: Least standard deviation of the luminance, 0..255. The cosine is 0.5 for 10..15.
        max_overexposed: Largest share of saturated pixels. The cosine is 0.7 for 0.4..0.6 of them.
        min_sharpness: Least sharpness, see `ViewMeasures`. The cosine is 0.5 below 0.06 and 0.8 from 0.1 on.
    """

    min_size: float = 24.0
    min_inside: float = 0.8
    max_yaw_pitch: float = 45.0
    max_roll: float = 45.0
    min_brightness: float = 40.0
    min_contrast: float = 12.0
    max_overexposed: float = 0.5
    min_sharpness: float = 0.09

    def __post_init__(self) -> None:
        if not 1 <= self.min_size < math.inf:
            raise ValueError(f"quality.min_size must be 1 pixel or more; got {self.min_size}")
        for name in ("min_inside", "max_overexposed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"quality.{name} is a share, 0 to 1; got {getattr(self, name)}")
        for name in ("max_yaw_pitch", "max_roll"):
            if not 0 < getattr(self, name) <= 180:
                raise ValueError(f"quality.{name} is an angle above 0 and up to 180 degrees; got {getattr(self, name)}")
        for name in ("min_brightness", "min_contrast", "min_sharpness"):
            if not 0 <= getattr(self, name) <= 255:
                raise ValueError(f"quality.{name} must be between 0 and 255; got {getattr(self, name)}")


@dataclass(frozen=True)
class Pose:
    """Where a face looks, in degrees; see `pose`."""

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True)
class ViewMeasures:
    """What is measured of a view of a face.

    Attributes:
        size: Width of the face in pixels.
        inside: Share of the face's box that lies in the frame.
        pose: Yaw, pitch and roll of the head.
        brightness: Mean of the face's luminance, 0..255.
        contrast: Standard deviation of the face's luminance, 0..255.
        overexposed: Share of its pixels that are saturated.
        sharpness: Energy of the second differences of luminance along rows, or along columns if that is the less,
            over its variance, in a crop of 40 pixels. The second differences are those of the Laplacian, the usual
            measure of focus (Pech-Pacheco et al. 2000); the weaker direction shows a blur by motion too, though less
            of one across the diagonal, and the variance makes it independent of light.
    """

    size: float
    inside: float
    pose: Pose
    brightness: float
    contrast: float
    overexposed: float
    sharpness: float

    def quality_issues(self, config: QualityConfig) -> tuple[QualityIssue, ...]:
        """Why the view is not fit, in the order of `QualityIssue`; nothing if it is."""
        found = {
            QualityIssue.SMALL: not self.size >= config.min_size,
            QualityIssue.CUT: self.inside < config.min_inside,
            QualityIssue.TURNED: max(abs(self.pose.yaw), abs(self.pose.pitch)) > config.max_yaw_pitch,
            QualityIssue.TILTED: abs(self.pose.roll) > config.max_roll,
            QualityIssue.DARK: self.brightness < config.min_brightness,
            QualityIssue.BRIGHT: self.overexposed > config.max_overexposed,
            QualityIssue.FAINT: self.contrast < config.min_contrast,
            QualityIssue.BLURRED: self.sharpness < config.min_sharpness,
        }
        return tuple(issue for issue, present in found.items() if present)

    @property
    def quality(self) -> float:
        """0..1; the better of two views of a face has the higher one.

        A product, for one thing that is bad cannot be made good by others. The cosine of a photo with others of the
        same person falls with the cosine of its yaw: 0.69 below 10 degrees, 0.59 at 30 to 40, in 1,118 photos of LFW.
        """
        front = math.cos(math.radians(self.pose.yaw)) * math.cos(math.radians(self.pose.pitch))
        light = min(1.0, self.brightness / 80) * min(1.0, self.contrast / 25) * (1 - self.overexposed)
        detail = min(1.0, self.size / 72) ** 0.5 * min(1.0, self.sharpness / 0.2) ** 0.5
        return float(max(0.0, front) * light * detail * self.inside)


NOTHING = ViewMeasures(0.0, 0.0, Pose(0.0, 0.0, 0.0), 0.0, 0.0, 0.0, 0.0)
"""Of points that are no face's."""


def quality_issues(
    image: NDArray[np.uint8], points: NDArray[np.floating], config: QualityConfig
) -> tuple[QualityIssue, ...]:
    """Why a view of a face is not fit to be recognized by; nothing if it is.

    Args:
        image: `(h, w, 3)` uint8 RGB, the frame.
        points: `(5, 2)`, of the face in it.

    Raises:
        ValueError: the frame is of another shape or type, or the points are not five.
    """
    return measure_view(image, points).quality_issues(config)


def quality(image: NDArray[np.uint8], points: NDArray[np.floating]) -> float:
    """How good a view of a face is, 0..1; see `ViewMeasures.quality`, and `quality_issues` for the arguments."""
    return measure_view(image, points).quality


def measure_view(image: NDArray[np.uint8], points: NDArray[np.floating]) -> ViewMeasures:
    """Measures a view of a face; see `quality_issues` for the arguments and errors."""
    check_frame(image)
    if points.shape != (5, 2):
        raise ValueError(f"a face has five points, (5, 2); got {points.shape}")
    size = float(face_sizes(points)[0])
    if not 1 <= size < math.inf:
        return NOTHING
    # OpenCV's functions, for numpy's take several times as long on so few pixels.
    crop = cv2.cvtColor(align(image, points, _SIZE), cv2.COLOR_RGB2GRAY)
    face = crop[_INNER]
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(face))
    second = (cv2.Sobel(crop, cv2.CV_16S, *order, ksize=1)[_INNER] for order in ((2, 0), (0, 2)))
    curvature = min(cv2.norm(differences, cv2.NORM_L2SQR) for differences in second)
    return ViewMeasures(
        size=size,
        inside=_inside(points, *image.shape[:2]),
        pose=pose(points),
        brightness=mean,
        contrast=deviation,
        overexposed=float(np.count_nonzero(face >= _SATURATED)) / face.size,
        # A gray level's variance more, so that a plain area is not sharp by its noise.
        sharpness=curvature / face.size / (deviation**2 + 1),
    )


def pose(points: NDArray[np.floating]) -> Pose:
    """Where a face looks, from where its nose is between its eyes and its mouth. An estimate, good to about 10 degrees.

    The roll is that of the alignment, after which with the middles `e` of the eyes and `m` of the mouth

        yaw   = atan((nose.x - (e.x + t (m.x - e.x))) / (0.5 * distance of the eyes)),  t = (nose.y - e.y) / (m.y - e.y)
        pitch = atan((nose.y - (e.y + 0.56 (m.y - e.y))) / (0.5 * (m.y - e.y)))

    for the tip of a nose that stands out by half the distance moves by `0.5 sin(angle)` of it, while the distance
    shrinks to `cos(angle)` of it.

    Args:
        points: `(5, 2)`.

    Returns:
        Yaw positive to the right in the picture, pitch downwards, roll clockwise; an eye that is on the wrong side, or
        a mouth above the eyes, is beyond 90 degrees.
    """
    # Complex numbers turn by a product; five of them are too few for numpy to be worth its calls.
    places = [complex(x, y) for x, y in points.tolist()]
    middle = sum(places) / 5
    turn = sum((place - middle).conjugate() * there for place, there in zip(places, _TEMPLATE, strict=True))
    turn = turn / abs(turn) if turn else 1 + 0j
    left, right, nose, mouth_left, mouth_right = ((place - middle) * turn for place in places)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    across, down = (right - left).real, (mouth - eyes).imag
    share = (nose - eyes).imag / down if down else 0.0
    aside = (nose - eyes).real - share * (mouth - eyes).real
    below = (nose - eyes).imag - _NOSE_DOWN * down
    return Pose(
        yaw=math.degrees(math.atan2(aside, _NOSE_OUT * across)),
        pitch=math.degrees(math.atan2(below, _NOSE_OUT * down)),
        roll=-math.degrees(cmath.phase(turn)),
    )


def _inside(points: NDArray[np.floating], height: int, width: int) -> float:
    """The share of a face's box that lies in a frame of this size."""
    x, y, w, h = face_boxes(points)[0].tolist()
    # Pixels are squares about their centers.
    columns = max(0.0, min(x + w, width - 0.5) - max(x, -0.5))
    rows = max(0.0, min(y + h, height - 0.5) - max(y, -0.5))
    return columns * rows / (w * h) if w * h > 0 else 0.0
