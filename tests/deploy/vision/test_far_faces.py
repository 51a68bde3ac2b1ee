from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.vision.align import TEMPLATE
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.far_faces import MOST_TILES, TILES_A_FRAME, FarSearch, TileRound, lay_out
from slimcam.deploy.vision.track import Track, TrackConfig, Tracker

INPUT = (240, 320)
SMALLEST = 14
SIZES = [
    (480, 648),
    (576, 720),
    (540, 960),
    (720, 1280),
    (960, 1280),
    (1080, 1920),
    (2160, 3840),
    (1920, 1080),
    (90, 3000),
]


class Marks:
    """Finds white rectangles that are as high and wide as a face, as a detector does: of its input, none that is
    narrower than 14 pixels, and those whole that it sees a part of."""

    def __init__(self, input: tuple[int, int] = INPUT) -> None:
        self.input = input
        self.shown: list[tuple[int, ...]] = []

    def detect(self, frame: np.ndarray) -> Faces:
        self.shown.append(frame.shape)
        _, _, found, _ = cv2.connectedComponentsWithStats((frame.min(axis=2) > 200).astype(np.uint8))
        points, (rows, columns) = [], frame.shape[:2]
        for x, y, w, h, _ in found[1:].tolist():
            size = max(w, h * 72 / 92)
            if size >= SMALLEST:
                left = x + w - size if x == 0 else x
                top = y + h - size * 92 / 72 if y == 0 else y
                assert x + w < columns or x == left
                assert y + h < rows or y == top
                points.append((TEMPLATE - (20, 18)) * (size / 72) + (left - 0.5, top - 0.5))
        return Faces(np.array(points, np.float32).reshape(-1, 5, 2), np.full(len(points), 0.9, np.float32))


def scene(size: tuple[int, int], *places: tuple[float, float], width: float = 24) -> np.ndarray:
    """A gray frame with a rectangle at each place, x and y of its left upper corner."""
    frame = np.full((*size, 3), 90, np.uint8)
    for x, y in places:
        frame[round(y) : round(y + width * 92 / 72), round(x) : round(x + width)] = 255
    return frame


class Watched:
    """Frames that are searched and followed as the camera does."""

    def __init__(self, fps: float) -> None:
        self.detector, self.search, self.tracker = Marks(), FarSearch(), Tracker(TrackConfig())
        self.fps, self.number, self.passes = fps, 0, 0
        self.ended: list[Track] = []

    def see(self, frame: np.ndarray) -> list[Track]:
        seconds = self.number / self.fps
        self.detector.shown = []
        faces, looked = self.search.find(self.detector, frame, self.tracker.expected(seconds), 1 / self.fps)
        tracks, ended = self.tracker.update(faces, seconds, looked=looked)
        self.ended += ended
        self.number, self.passes = self.number + 1, len(self.detector.shown)
        return tracks


# Tiles


@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_the_frame_and_are_not_many(size: tuple[int, int]) -> None:
    plan = lay_out(*size, *INPUT)
    assert 2 <= len(plan.tiles) <= MOST_TILES
    seen = np.zeros(size, bool)
    for tile in plan.tiles:
        left, top, wide, high = tile.window
        assert tile.place[2] <= INPUT[1]
        assert tile.place[3] <= INPUT[0]
        seen[top : top + high, left : left + wide] = True
    assert seen.all()


@given(st.sampled_from(SIZES), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 1))
@settings(max_examples=200, deadline=None)
def test_a_face_smaller_than_the_overlap_is_whole_in_the_tile_that_it_is_looked_for_in(
    size: tuple[int, int], x: float, y: float, share: float
) -> None:
    plan = lay_out(*size, *INPUT)
    middle = np.array([[x * size[1], y * size[0]]])
    half = share * plan.margin * np.array([72 / 92, 1])
    looked_in = [tile for tile in plan.tiles if tile.looks_for(middle, plan.size, plan.margin)[0]]
    assert looked_in
    for tile in looked_in:
        bounds = tile.bounds(plan.size)
        assert (middle - half >= bounds[:2]).all()
        assert (middle + half <= bounds[2:]).all()


def test_a_face_beyond_the_border_is_looked_for_in_a_tile_too() -> None:
    plan = lay_out(1080, 1920, *INPUT)
    outside = np.array([[-40.0, 500.0], [1990.0, -20.0]])
    assert np.any([tile.looks_for(outside, plan.size, plan.margin) for tile in plan.tiles], axis=0).all()


def test_a_face_of_24_pixels_is_at_least_16_in_a_tile_of_720p_and_1080p() -> None:
    for size in ((720, 1280), (1080, 1920)):
        for tile in lay_out(*size, *INPUT).tiles:
            assert 24 * tile.place[2] / tile.window[2] > 16


@given(st.integers(1, 25), st.integers(0, 40), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_each_tile_has_its_turn_within_the_period_whatever_moves(count: int, spare: int, random) -> None:
    turns, period = TileRound(count), count + spare
    last = [-1] * count
    busy = random.sample(range(count), random.randint(0, count))
    for turn in range(4 * period):
        turns.wanted[[tile for tile in busy if random.random() < 0.7]] = True
        chosen = turns.choose(period)
        last[chosen] = turn
        assert all(turn - each <= period for each in last)


def test_tiles_that_are_wanted_go_first_where_the_period_leaves_time() -> None:
    for period, soon in ((40, 1), (20, 20)):
        turns = TileRound(20)
        for _ in range(20):
            turns.choose(period)
        turns.wanted[19] = True  # it was the last one
        assert [turns.choose(period) for _ in range(20)].index(19) == soon - 1
        assert not turns.wanted.any()


# Frames


@pytest.mark.parametrize("size", [(240, 320), (360, 640), (480, 640), (100, 100)])
def test_small_frames_go_to_the_detector_as_they_are(size: tuple[int, int]) -> None:
    class Once(Marks):
        def detect(self, frame: np.ndarray) -> Faces:
            assert frame is image
            self.answer = super().detect(frame)
            return self.answer

    image, detector, tracker = scene(size, (30, 30)), Once(), Tracker(TrackConfig())
    tracker.update(detector.detect(image), 0.0)
    found, looked = FarSearch().find(detector, image, tracker.expected(0.1), 0.1)
    assert found is detector.answer
    assert looked.tolist() == [True]
    assert len(detector.shown) == 2


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920)])
def test_a_face_of_24_pixels_is_found_within_a_second_by_two_passes_a_frame_and_then_in_every_frame(
    size: tuple[int, int],
) -> None:
    rng = np.random.default_rng(0)
    for x, y in [(0, 0), *rng.uniform((0, 0), (size[1] - 25, size[0] - 33), (5, 2))]:
        watched = Watched(fps=25)
        frame = scene(size, (x, y))
        shown = []
        for _ in range(40):
            tracks = watched.see(frame)
            assert watched.passes == 2
            assert set(watched.detector.shown) == {(*INPUT, 3)}
            shown.append(len(tracks))
            for track in tracks:
                assert track.seen
                assert track.number == 1
                np.testing.assert_allclose(track.points, (TEMPLATE - (20, 18)) / 3 + (x, y), atol=3)
        assert shown.index(1) < 25
        assert shown == sorted(shown)


def test_with_fewer_frames_a_second_more_tiles_are_looked_at_but_not_more_than_two() -> None:
    for fps, passes in ((30, 2), (20, 2), (19, 3), (10, 3), (2, 3)):
        watched = Watched(fps)
        for _ in range(4):
            watched.see(scene((1080, 1920)))
            assert watched.passes == passes <= 1 + TILES_A_FRAME


def test_a_face_that_appears_in_a_still_scene_is_found_at_once() -> None:
    watched = Watched(fps=30)
    for _ in range(33):
        assert not watched.see(scene((1080, 1920)))
    assert any(watched.see(scene((1080, 1920), (1400, 300), width=30)) for _ in range(3))


def test_a_face_that_walks_keeps_its_track() -> None:
    watched = Watched(fps=25)
    frames = [watched.see(scene((1080, 1920), (200 + 6 * i, 700))) for i in range(120)]
    assert {track.number for tracks in frames for track in tracks} == {1}
    assert all(frames[25:])


def test_one_that_leaves_has_left_after_as_long_as_a_near_one() -> None:
    watched = Watched(fps=25)
    for _ in range(30):
        tracks = watched.see(scene((1080, 1920), (900, 500)))
    assert len(tracks) == 1
    for _ in range(39):
        assert not watched.see(scene((1080, 1920)))
    assert len(watched.ended) == 1


def test_more_faces_than_are_looked_at_in_a_frame_keep_their_tracks() -> None:
    """Cells are for five of them."""
    places = [(60 + 300 * column, 50 + 230 * row) for column in range(6) for row in range(4)]
    watched = Watched(fps=25)
    frame = scene((1080, 1920), *places)
    frames = [watched.see(frame) for _ in range(150)]
    assert {watched.passes for _ in range(5) if watched.see(frame)} == {2}
    assert [len(tracks) for tracks in frames[25:]] == [24] * 125
    assert {track.number for tracks in frames for track in tracks} == set(range(1, 25))
    assert not watched.ended
    waiting = [track for tracks in frames[25:] for track in tracks if not track.seen]
    assert waiting  # they are not seen all the time
    assert all(any(np.abs(track.points[0] - place).max() < 24 for place in places) for track in waiting)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_looked_at_in_all_tiles_at_once_and_each_face_is_found_once(size: tuple[int, int]) -> None:
    """Rectangles on the edges of tiles among them: cut in one, whole in the next, and seen twice where they overlap."""
    plan, detector = lay_out(*size, *INPUT), Marks()
    width = 18 * plan.tiles[0].window[2] / plan.tiles[0].place[2]
    step = 2.3 * width
    places = [
        (x, y)
        for x in np.arange(2, size[1] - width - 2, step).tolist()
        for y in np.arange(2, size[0] - 1.3 * width - 2, step).tolist()
    ]
    found, _ = FarSearch().find(detector, scene(size, *places, width=width))
    assert len(detector.shown) == 1 + len(plan.tiles)
    assert len(found) == len(places)
    corners = np.array(places)
    for box in found.boxes:
        assert np.abs(corners - box[:2]).max(axis=1).min() < 0.2 * width
        assert box[2] == pytest.approx(width, rel=0.2)


def test_what_a_large_face_is_found_by_in_the_whole_is_found_once() -> None:
    for width in (90, 130, 200, 400):
        watched = Watched(fps=25)
        for _ in range(30):
            (track,) = watched.see(scene((1080, 1920), (700, 300), width=width))
            assert track.number == 1


def test_frames_of_another_size_begin_anew_and_others_are_refused_in_one_line() -> None:
    watched = Watched(fps=25)
    for size in ((1080, 1920), (720, 1280), (360, 640), (1080, 1920)):
        watched.see(scene(size, (100, 100)))
    with pytest.raises(ValueError, match="gray") as error:
        watched.see(np.zeros((1080, 1920), np.uint8))
    assert "\n" not in str(error.value)


def test_a_detector_of_another_input_has_tiles_of_its_own() -> None:
    for input in ((480, 640), (96, 128), (48, 48)):
        detector = Marks(input)
        for _ in range(30):
            FarSearch().find(detector, scene((1080, 1920)), interval=0.04)
        assert set(detector.shown) == {(*input, 3)}
