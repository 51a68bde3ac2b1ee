"""Faces that are too small in a frame fitted into a detector's input: parts of the frame are looked at more finely.

A 24-pixel face of a 1920x1080 frame is 4 pixels wide in the 320x240 that a detector sees. So each frame is looked at
whole, as without this, and beside that

- in **tiles**: overlapping parts at the scale of the frame itself or, of a large frame, as fine as 20 of them can
  be, one or two a frame. Each has its turn within a second, or a round of all; where there is time left, those are
  taken earlier in which something moves, or a followed face is expected that is looked for nowhere else;
- in **cells**: the surroundings of faces that are followed and too small in the whole, each brought to the size that a
  detector sees best. They lie where the fitted frame leaves the input empty, a quarter of it for a frame of 16:9, and
  so cost no pass of the network.

What a tile or a cell cuts off is left out, and faces that are seen twice are joined by the decoder's own
`slimcam.deploy.vision.detector_output.vote_boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.vision.align import check_frame, face_boxes, face_sizes
from slimcam.deploy.vision.detector import FittingDetector
from slimcam.deploy.vision.detector_output import Faces, vote_boxes
from slimcam.deploy.vision.letterbox import GRAY
from slimcam.deploy.vision.track import NOBODY_EXPECTED, ExpectedFaces

Image = NDArray[np.uint8]
Float = NDArray[np.floating]

NEAR_RATIO = 2.0
"""Pixels of a frame that one of the input stands for, up to which one look at the whole is enough: for an input of
320x240, 640 columns and 480 rows."""

MOST_TILES = 20
"""Tiles that cover a frame, at the most; with more than that at the frame's own scale, they are coarser."""

COARSER = 1.1
"""Step by which they are."""

OVERLAP = 60
"""Pixels of the input that neighboring tiles share at the least, or a quarter of a shorter side: a face that one of
them cuts is whole in another."""

TILES_A_FRAME = 2
"""Tiles that are looked at in a frame, at the most."""

SEEN = 16.0
"""Width of a face in the input, pixels, from which on it counts as looked for wherever it is in a picture."""

SURE = 24.0
"""Width from which on it is found as well as larger ones."""

CELL = (60, 64)
"""Height and width of a cell, pixels of the input."""

CELL_FACE = 22.0
"""Width of the expected face in a cell: it may move by a width to either side."""

_GAP = 4
"""Rows of a cell that stay gray, so that a face at the border of the frame is not continued by another."""

_CHANGED = 12
"""Difference of brightness, of 255, that is a movement and not noise."""

_COARSE = 4
"""Pixels of the fitted frame, each way, for one of the picture that movements are seen in: the mean of four of them."""


class Reach(Choice):
    """How small the faces are that are looked for."""

    near = "near"
    """What is seen in the whole frame, fitted into the detector's input."""
    far = "far"
    """Smaller ones too, in tiles of the frame."""


@dataclass(frozen=True)
class Patch:
    """A part of a frame, and where it is shown in the input of a detector.

    Attributes:
        window: left, top, width and height in the frame, pixels.
        place: the same in the input.
    """

    window: tuple[int, int, int, int]
    place: tuple[int, int, int, int]

    def show(self, frame: Image, canvas: Image) -> None:
        """Puts the part of a frame `(h, w, 3)` in its place in the input `(H, W, 3)`.

        Interpolated where it shrinks too: averaging takes as long as the network, and as many faces are found.
        """
        (left, top, wide, high), (x, y, columns, rows) = self.window, self.place
        cv2.resize(
            frame[top : top + high, left : left + wide],
            (columns, rows),
            dst=canvas[y : y + rows, x : x + columns],
            interpolation=cv2.INTER_LINEAR,
        )

    def looks_for(self, middles: Float, size: tuple[int, int], margin: float) -> NDArray[np.bool_]:
        """Which faces, by their middles `(N, 2)` in the frame, are looked for in this part of it.

        Args:
            size: Height and width of the frame; what is beyond its borders is looked for at them.
            margin: Pixels along the other edges of the part that are looked at in a neighbor.
        """
        left, top, right, bottom = self.bounds(size, margin)
        x, y = middles.T
        within: NDArray[np.bool_] = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        return within

    def bounds(self, size: tuple[int, int], margin: float = 0.0) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the part in the frame; infinite where it reaches the border of the frame.

        Args:
            size: Height and width of the frame.
            margin: Pixels that are taken off at each other edge.
        """
        left, top, wide, high = self.window
        return (
            left + margin if left > 0 else -math.inf,
            top + margin if top > 0 else -math.inf,
            left + wide - margin if left + wide < size[1] else math.inf,
            top + high - margin if top + high < size[0] else math.inf,
        )


@dataclass(frozen=True)
class Layout:
    """How frames of one size are looked at.

    Attributes:
        size: Height and width of the frames.
        ratio: Pixels of a frame that one of the input stands for, in the whole.
        whole: the whole frame, fitted into the input.
        cells: Left and top of the cells in the input.
        tiles: parts that cover the frame; none where the whole shows enough.
        margin: Pixels along the inner edges of a tile that are looked at in a neighbor.
        regions: `(T, 4)` left, top, right, bottom of the tiles in the coarse picture that movements are seen in.
    """

    size: tuple[int, int]
    ratio: float
    whole: Patch
    cells: tuple[tuple[int, int], ...] = ()
    tiles: tuple[Patch, ...] = ()
    margin: float = 0.0
    regions: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))


@lru_cache(maxsize=8)
def lay_out(height: int, width: int, rows: int, columns: int) -> Layout:
    """How a frame of `height` x `width` is looked at by a detector whose input is `rows` x `columns`."""
    ratio = max(height / rows, width / columns)
    inner_rows, inner_columns = max(1, round(height / ratio)), max(1, round(width / ratio))
    whole = Patch((0, 0, width, height), (0, 0, inner_columns, inner_rows))
    if ratio <= NEAR_RATIO:
        return Layout((height, width), ratio, whole)
    left, top = (0, inner_rows) if inner_columns == columns else (inner_columns, 0)
    cells = tuple(
        (x, y) for y in range(top, rows - CELL[0] + 1, CELL[0]) for x in range(left, columns - CELL[1] + 1, CELL[1])
    )
    fine, overlap = 1.0, min(OVERLAP, rows // 4, columns // 4)
    while True:
        down, across = (
            _spread(side, round(fine * length), fine * overlap) for side, length in ((height, rows), (width, columns))
        )
        if len(down) * len(across) <= MOST_TILES:
            break
        fine *= COARSER
    tiles = tuple(
        Patch((x, y, wide, high), (0, 0, min(columns, round(wide / fine)), min(rows, round(high / fine))))
        for y, high in down
        for x, wide in across
    )
    windows = np.array([tile.window for tile in tiles], np.float64)
    corners = np.concatenate([windows[:, :2], windows[:, :2] + windows[:, 2:]], axis=1)
    coarse = np.array([max(1, inner_columns // _COARSE) / width, max(1, inner_rows // _COARSE) / height])
    regions = np.rint(corners * np.tile(coarse, 2)).astype(np.int64)
    return Layout((height, width), ratio, whole, cells, tiles, fine * overlap / 2, regions)


def _spread(side: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    """Start and length of the stretches that cover a side of a frame, evenly."""
    if side <= tile:
        return [(0, side)]
    count = 1 + math.ceil((side - tile) / (tile - overlap))
    return [(round(start), tile) for start in np.linspace(0, side - tile, count)]


class TileRound:
    """Whose turn it is: each of some tiles within a period, and those that are wanted more often.

    Args:
        count: Number of tiles.

    Attributes:
        waited: `(T,)`, turns since each was chosen.
        wanted: `(T,)`, which of them are to be looked at early.
    """

    def __init__(self, count: int) -> None:
        self.waited, self.wanted = np.ones(count, np.int64), np.zeros(count, bool)

    def choose(self, period: int) -> int:
        """The tile whose turn it is.

        Args:
            period: Turns in which each tile is chosen, the number of tiles at the least.
        """
        longest = np.argsort(-self.waited, kind="stable")
        # With a turn for another tile now, all of them are still in time if they follow in the order of their waiting.
        spare = int((self.waited[longest] + np.arange(len(longest))).max()) + 1 <= period
        if spare and self.wanted.any():
            longest = longest[self.wanted[longest]]
        chosen = int(longest[0])
        self.waited += 1
        self.waited[chosen], self.wanted[chosen] = 1, False
        return chosen


class FarSearch:
    """Looks for faces in the frames of one source, one after the other.

    Frames of up to `NEAR_RATIO` are handed to the detector as they are.
    """

    def __init__(self) -> None:
        self._plan: Layout | None = None

    def find(
        self,
        detector: FittingDetector,
        frame: Image,
        expected: ExpectedFaces = NOBODY_EXPECTED,
        interval: float = math.inf,
    ) -> tuple[Faces, NDArray[np.bool_]]:
        """The faces that are found in a frame, best first.

        Args:
            detector: Looks at the whole frame and at one or two tiles; another one may come with any frame.
            frame: `(h, w, 3)` uint8 RGB.
            expected: Faces that are followed.
            interval: Seconds between two frames, 0 where they are not known; infinite for pictures, which are looked at
                in all their tiles.

        Returns:
            The faces, and `(K,)` which of the expected ones were looked for.

        Raises:
            ValueError: the frame is of another shape or type.
        """
        check_frame(frame)
        plan = lay_out(*frame.shape[:2], *detector.input)
        if not plan.tiles:
            return detector.detect(frame), np.ones(len(expected), bool)
        if plan is not self._plan:
            self._begin(plan, detector.input)
        middles, sizes = _middles(face_boxes(expected.points)), face_sizes(expected.points) / plan.ratio

        plan.whole.show(frame, self._whole)
        self._want_moving_tiles(plan)
        cells = _cells(plan, middles, sizes, expected.looked)
        self._show_cells(plan, frame, list(cells.values()))
        looked = sizes >= SEEN
        looked[list(cells)] = True
        found = [_located(detector.detect(self._whole), [*cells.values(), plan.whole], plan)]
        for tile in self._next_tiles(plan, middles[~looked], interval):
            looked |= tile.looks_for(middles, plan.size, plan.margin)
            tile.show(frame, self._tile)
            found.append(_located(detector.detect(self._tile), [tile], plan))
        points, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(-scores, kind="stable")
        return vote_boxes(points[order], scores[order]), looked

    def _begin(self, plan: Layout, input: tuple[int, int]) -> None:
        """Begins again with frames of another size."""
        self._plan, self._round = plan, TileRound(len(plan.tiles))
        self._whole, self._tile = (np.full((*input, 3), GRAY, np.uint8) for _ in range(2))
        self._brightness: Image | None = None

    def _show_cells(self, plan: Layout, frame: Image, cells: list[Patch]) -> None:
        _, _, columns, rows = plan.whole.place
        self._whole[rows:], self._whole[:rows, columns:] = GRAY, GRAY
        for cell in cells:
            cell.show(frame, self._whole)

    def _want_moving_tiles(self, plan: Layout) -> None:
        """Wants the tiles in which the brightness of the fitted frame has changed."""
        _, _, columns, rows = plan.whole.place
        side = max(1, columns // _COARSE), max(1, rows // _COARSE)
        small = cv2.resize(self._whole[:rows, :columns], side, interpolation=cv2.INTER_LINEAR)
        before, self._brightness = self._brightness, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if before is None:
            return
        changed = (cv2.absdiff(self._brightness, before) > _CHANGED).view(np.uint8)
        if changed.any():
            sums, (left, top, right, bottom) = cv2.integral(changed), plan.regions.T
            self._round.wanted |= sums[bottom, right] + sums[top, left] > sums[top, right] + sums[bottom, left]

    def _next_tiles(self, plan: Layout, passed_over: Float, interval: float) -> list[Patch]:
        """The tiles of this frame.

        Args:
            passed_over: Middles `(N, 2)` of expected faces that are looked for nowhere else.
        """
        if math.isinf(interval):
            return list(plan.tiles)
        if len(passed_over):
            self._round.wanted |= [tile.looks_for(passed_over, plan.size, plan.margin).any() for tile in plan.tiles]
        tiles = min(TILES_A_FRAME, max(1, math.ceil(len(plan.tiles) * interval)))
        period = max(len(plan.tiles), math.floor(tiles / interval)) if interval > 0 else len(plan.tiles)
        return [plan.tiles[self._round.choose(period)] for _ in range(tiles)]


def _cells(plan: Layout, middles: Float, sizes: Float, looked: Float) -> dict[int, Patch]:
    """The surroundings of the expected faces that are looked at in cells, by their numbers.

    They are those that the whole does not show surely: the smallest ones in turn, then the others.

    Args:
        middles: `(K, 2)`, in the frame.
        sizes: `(K,)`, widths in the input.
        looked: `(K,)`, when each was looked for.
    """
    (small,) = np.nonzero(sizes < SURE)
    if not len(small):
        return {}
    chosen = small[np.lexsort((looked[small], sizes[small] >= SEEN))][: len(plan.cells)]
    frame, cell = np.array(plan.size[::-1]), np.array([CELL[1], CELL[0] - _GAP])
    zoom = np.maximum(sizes[chosen] * plan.ratio, 1) / CELL_FACE
    sides = np.clip(np.rint(zoom[:, np.newaxis] * cell), 1, frame)
    starts = np.rint(np.clip(middles[chosen] - sides / 2, 0, frame - sides))
    windows = np.concatenate([starts, sides], axis=1).astype(int).tolist()
    return {
        number: Patch((left, top, wide, high), (x, y + _GAP, CELL[1], CELL[0] - _GAP))
        for number, (left, top, wide, high), (x, y) in zip(chosen.tolist(), windows, plan.cells, strict=False)
    }


def _located(found: Faces, patches: Sequence[Patch], plan: Layout) -> tuple[Float, Float]:
    """Points `(N, 5, 2)` in the frame, and scores, of the faces that no patch cuts.

    Args:
        found: in the input.
        patches: where it shows what; the last one all that the others do not.
    """
    points, scores = found.points.astype(np.float64), found.scores.astype(np.float64)
    if not len(found):
        return points, scores
    windows, places = (np.array([getattr(patch, name) for patch in patches], float) for name in ("window", "place"))
    middles = _middles(face_boxes(points))[:, np.newaxis]
    # Of each face and patch, whether it is there; of each face, the first patch that it is in.
    within = ((middles >= places[:, :2]) & (middles < places[:, :2] + places[:, 2:])).all(axis=2)
    within[:, -1] = True
    own = within.argmax(axis=1)
    window, place = windows[own, np.newaxis], places[own, np.newaxis]
    points = (points - (place[..., :2] - 0.5)) * (window[..., 2:] / place[..., 2:]) + (window[..., :2] - 0.5)
    boxes = face_boxes(points)
    bounds = np.array([patch.bounds(plan.size) for patch in patches])[own]
    whole = ((boxes[:, :2] >= bounds[:, :2]) & (boxes[:, :2] + boxes[:, 2:] <= bounds[:, 2:])).all(axis=1)
    return points[whole], scores[whole]


def _middles(boxes: Float) -> Float:
    """Of boxes x, y, width, height, `(N, 2)` for `(N, 4)`."""
    return boxes[:, :2] + boxes[:, 2:] / 2
