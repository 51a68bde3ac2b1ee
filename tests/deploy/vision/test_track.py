from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.vision.align import TEMPLATE
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.track import Track, TrackConfig, Tracker

CENTERED = (TEMPLATE - TEMPLATE.mean(axis=0)).astype(np.float64)
NOBODY = Faces(np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))


def face(x: float, y: float, size: float = 60) -> np.ndarray:
    return CENTERED * (size / 72) + (x, y)


def faces(*points: np.ndarray, score: float | list[float] = 0.95) -> Faces:
    scores = np.full(len(points), score, np.float32) if isinstance(score, float) else np.array(score, np.float32)
    return Faces(np.array(points, np.float32).reshape(-1, 5, 2), scores)


def numbers(tracks: list[Track]) -> list[int]:
    return [track.number for track in tracks]


def followed(tracks: list[Track], points: np.ndarray) -> int:
    """The number of the track that has these points."""
    (found,) = [track.number for track in tracks if np.array_equal(track.points, np.asarray(points, np.float32))]
    return found


def test_a_face_that_stays_is_one_track_with_its_points_score_and_age() -> None:
    tracker = Tracker(TrackConfig())
    for i in range(30):
        points = face(100 + i, 80)
        (track,), ended = tracker.update(faces(points, score=0.9), 5 + i / 30)
        assert not ended
        np.testing.assert_allclose(track.points, points, rtol=1e-6)
        assert (track.number, track.points.dtype) == (1, np.float32)
        assert track.score == pytest.approx(0.9)
        assert track.age == pytest.approx(i / 30)


def test_frames_without_faces_are_frames() -> None:
    tracker = Tracker(TrackConfig())
    assert tracker.update(NOBODY, 0) == ([], [])
    assert numbers(tracker.update(faces(face(50, 50)), 0.1)[0]) == [1]
    assert tracker.update(NOBODY, 0.2) == ([], [])


# Beginning and ending


def test_a_doubtful_face_must_be_seen_a_few_times_in_a_row() -> None:
    tracker = Tracker(TrackConfig(hits=3, high_threshold=0.9))
    doubtful = faces(face(100, 80), score=0.7)
    assert [numbers(tracker.update(doubtful, i / 10)[0]) for i in range(4)] == [[], [], [1], [1]]
    # Anew, with a frame in between that it is not in.
    far = faces(face(400, 300), score=0.7)
    rounds = [far, far, doubtful, far, far, far]
    assert [numbers(tracker.update(one, 1 + i / 10)[0]) for i, one in enumerate(rounds)] == [[], [], [1], [], [], [2]]


def test_a_face_becomes_certain_by_one_good_look() -> None:
    tracker = Tracker(TrackConfig(hits=9, high_threshold=0.9))
    assert numbers(tracker.update(faces(face(100, 80), score=0.7), 0)[0]) == []
    assert numbers(tracker.update(faces(face(100, 80), score=0.95), 0.1)[0]) == [1]


def test_weak_faces_continue_tracks_and_begin_none() -> None:
    tracker = Tracker(TrackConfig(low_threshold=0.6, hits=1))
    weak = faces(face(100, 80), score=0.5)
    assert all(tracker.update(weak, i / 10) == ([], []) for i in range(10))
    assert numbers(tracker.update(faces(face(100, 80), score=0.65), 1)[0]) == [1]
    assert numbers(tracker.update(weak, 1.1)[0]) == [1]


def test_a_weak_face_takes_no_track_from_a_good_one() -> None:
    tracker = Tracker(TrackConfig())
    tracker.update(faces(face(100, 80)), 0)
    good, weak = face(110, 80), face(101, 80)
    found, _ = tracker.update(faces(weak, good, score=[0.5, 0.9]), 0.1)
    assert followed(found, good) == 1
    assert len(found) == 1


def test_tracks_end_with_their_buffer_and_are_reported_once() -> None:
    tracker = Tracker(TrackConfig(buffer_seconds=1.0))
    tracker.update(faces(face(100, 80), face(300, 80)), 0)
    assert tracker.update(faces(face(300, 80)), 0.9)[1] == []
    found, ended = tracker.update(faces(face(300, 80)), 1.1)
    assert (numbers(found), numbers(ended)) == ([2], [1])
    np.testing.assert_allclose(ended[0].points, face(100, 80), rtol=1e-5)
    assert tracker.update(NOBODY, 1.2) == ([], [])
    # Back too late.
    assert numbers(tracker.update(faces(face(100, 80)), 1.3)[0]) == [3]


@pytest.mark.parametrize("gap", [1 / 30, 0.1, 0.5, 1.0, 1.4])
def test_the_buffer_is_time_and_not_frames(gap: float) -> None:
    tracker = Tracker(TrackConfig(buffer_seconds=1.5))
    seen = [numbers(tracker.update(faces(face(100, 80)), i * gap)[0]) for i in range(5)]
    assert seen == [[1]] * 5
    assert numbers(tracker.update(faces(face(100, 80)), 4 * gap + 1.6)[0]) == [2]


def test_a_clip_that_begins_again_has_new_tracks() -> None:
    tracker = Tracker(TrackConfig())
    tracker.update(faces(face(100, 80)), 60)
    found, ended = tracker.update(faces(face(100, 80)), 0)
    assert (numbers(found), numbers(ended)) == ([2], [1])


def test_a_false_alarm_takes_no_number() -> None:
    tracker = Tracker(TrackConfig(hits=3, high_threshold=0.9))
    for i in range(50):
        tracker.update(faces(face(10 + 90 * (i % 7), 80), score=0.7), i / 10)
    assert numbers(tracker.update(faces(face(300, 300)), 5)[0]) == [1]


# Who is who


def test_a_scene_cut_begins_new_tracks() -> None:
    tracker = Tracker(TrackConfig())
    for i in range(10):
        tracker.update(faces(face(100, 100), face(300, 100)), i / 30)
    found, _ = tracker.update(faces(face(200, 250), face(400, 250)), 10 / 30)
    assert numbers(found) == [3, 4]
    assert tracker.update(faces(face(200, 250), face(400, 250)), 1.5)[1] == []
    _, ended = tracker.update(faces(face(200, 250), face(400, 250)), 2)
    assert numbers(ended) == [1, 2]


def test_a_face_in_front_of_another_is_another() -> None:
    tracker = Tracker(TrackConfig())
    tracker.update(faces(face(100, 100, 30)), 0)
    near, far = face(100, 100, 120), face(101, 100, 30)
    found, _ = tracker.update(faces(near, far), 0.03)
    assert followed(found, far) == 1
    assert followed(found, near) == 2


@pytest.mark.parametrize("rate", [5, 10, 15, 30])
@pytest.mark.parametrize(("first", "second"), [((180, 0), (-180, 0)), ((150, 30), (-90, -10)), ((60, 80), (60, -80))])
@pytest.mark.parametrize("noise", [0, 1.5])
def test_faces_that_cross_keep_their_numbers(
    rate: int, first: tuple[int, int], second: tuple[int, int], noise: float
) -> None:
    """Pixels a second; they meet at (320, 180), where the one in front hides the other."""
    rng = np.random.default_rng(0)
    tracker = Tracker(TrackConfig())
    meeting = 1.5 + 0.4 / rate
    expected: dict[str, int] = {}
    for i in range(3 * rate):
        seconds = i / rate
        places = {
            name: np.add((320, 180), np.multiply(speed, seconds - meeting))
            for name, speed in (("first", first), ("second", second))
        }
        if np.linalg.norm(places["first"] - places["second"]) < 25:
            del places["second"]
        points = {name: face(*place) + rng.normal(0, noise, (5, 2)) for name, place in places.items()}
        found, _ = tracker.update(faces(*points.values()), seconds)
        for name, one in points.items():
            assert followed(found, one) == expected.setdefault(name, followed(found, one))
    assert len(set(expected.values())) == 2


def test_a_row_of_faces_that_walks_keeps_its_numbers() -> None:
    """Half a spacing from frame to frame: without prediction each would be taken for its neighbor."""
    tracker = Tracker(TrackConfig())
    for i in range(12):
        # They set off slowly.
        shift = sum(min(12 * k, 70) for k in range(i))
        row = [face(100 + 90 * k + shift, 100) for k in range(5)]
        found, _ = tracker.update(faces(*row), i / 5)
        assert [followed(found, one) for one in row] == [followed(found, row[0]) + k for k in range(5)]
        assert len(found) == 5


seconds_between = st.lists(st.floats(1 / 30, 1.0), min_size=2, max_size=30)


@given(gaps=seconds_between, count=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_walks_of_faces_apart_never_switch(gaps: list[float], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker(TrackConfig(high_threshold=0.9))
    homes = np.stack([220.0 * (np.arange(count) % 4), 220.0 * (np.arange(count) // 4)], axis=1)
    places, seconds = homes.copy(), 0.0
    known: dict[int, int] = {}
    for gap in gaps:
        seconds += gap
        places = np.clip(places + rng.normal(0, 20 * gap, places.shape), homes - 20, homes + 20)
        # A face is missed, or hardly seen, now and then.
        shown = [k for k in range(count) if rng.random() > 0.1 or k not in known]
        points = {k: face(*places[k]) + rng.normal(0, 1, (5, 2)) for k in shown}
        scores = [0.95 if k not in known else float(rng.choice([0.5, 0.7, 0.95])) for k in shown]
        found, ended = tracker.update(faces(*points.values(), score=scores), seconds)
        for track in ended:
            known = {k: number for k, number in known.items() if number != track.number}
        for k, one in points.items():
            if k in known or any(np.array_equal(track.points, one.astype(np.float32)) for track in found):
                assert followed(found, one) == known.setdefault(k, followed(found, one))


boxes = st.tuples(st.floats(0, 640), st.floats(0, 360), st.floats(10, 200), st.floats(0.3, 1.0))
clips = st.lists(st.tuples(st.floats(0, 2), st.lists(boxes, max_size=6)), max_size=12)


@given(clip=clips, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_the_order_of_faces_does_not_matter(clip: list[tuple[float, list[tuple[float, ...]]]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other, seconds = Tracker(TrackConfig()), Tracker(TrackConfig()), 0.0
    for gap, shown in clip:
        seconds += gap
        order = rng.permutation(len(shown))
        found = faces(*[face(*box[:3]) for box in shown], score=[box[3] for box in shown])
        mixed = Faces(found.points[order], found.scores[order])
        for first, second in zip(one.update(found, seconds), other.update(mixed, seconds), strict=True):
            assert [repr(track) for track in first] == [repr(track) for track in second]


@given(clip=clips)
@settings(max_examples=100, deadline=None)
def test_numbers_are_given_once(clip: list[tuple[float, list[tuple[float, ...]]]]) -> None:
    tracker, seconds, gone, largest = Tracker(TrackConfig()), 0.0, set[int](), 0
    for gap, shown in clip:
        seconds += gap
        found, ended = tracker.update(
            faces(*[face(*box[:3]) for box in shown], score=[box[3] for box in shown]), seconds
        )
        gone |= set(numbers(ended))
        assert not gone & set(numbers(found))
        assert len(set(numbers(found))) == len(found) <= len(shown)
        new = [number for number in numbers(found) if number > largest]
        assert new == list(range(largest + 1, largest + 1 + len(new)))
        largest += len(new)


def test_points_that_coincide_are_followed_no_further_than_they_lie() -> None:
    tracker = Tracker(TrackConfig())
    dot = np.full((5, 2), 50.0)
    assert numbers(tracker.update(faces(dot), 0)[0]) == [1]
    assert numbers(tracker.update(faces(dot), 0.1)[0]) == [1]
    assert numbers(tracker.update(faces(dot + 5), 0.2)[0]) == [2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("low_threshold", -0.1),
        ("high_threshold", 1.1),
        ("hits", 0),
        ("buffer_seconds", 0),
        ("buffer_seconds", float("nan")),
        ("reach", 0),
        ("speed", -1),
    ],
)
def test_senseless_options_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"track\.{field}") as error:
        TrackConfig(**{field: value})
    assert "\n" not in str(error.value)


# Faces that were not looked for


def test_a_face_that_was_not_looked_for_grows_no_older_and_is_told_of_where_it_is_expected() -> None:
    tracker = Tracker(TrackConfig(buffer_seconds=1.5))
    for i in range(10):
        tracker.update(faces(face(100 + 6 * i, 80)), i / 10)
    for i in range(10, 60):
        seconds = i / 10
        expected = tracker.expected(seconds)
        ((track,), ended) = tracker.update(NOBODY, seconds, looked=np.array([False]))
        assert not ended
        assert (track.number, track.seen) == (1, False)
        assert np.array_equal(track.points, expected.points[0])
        assert expected.looked.tolist() == [0.9]
        assert track.points[0, 0] == pytest.approx(face(154 + 6 * min(i - 9, 5), 80)[0, 0], abs=0.5)
    # It stays where it was expected after half a second, and is found there.
    ((track,), _) = tracker.update(faces(face(184, 80)), 6.0)
    assert (track.number, track.seen) == (1, True)


def test_it_ends_when_its_face_is_missed_for_as_long_as_others_are() -> None:
    tracker = Tracker(TrackConfig(buffer_seconds=1.5))
    tracker.update(faces(face(100, 80)), 0.0)
    looked = [i >= 40 and i % 3 == 0 for i in range(1, 100)]
    ended = []
    for i, there in enumerate(looked, start=1):
        tracks, gone = tracker.update(NOBODY, i / 10, looked=np.full(len(tracker.expected(i / 10)), there))
        ended += [(i, track.number) for track in gone]
        assert numbers(tracks) == ([1] if i < 42 else [])  # missed at 4.2 s, it is no longer told of
    assert ended == [(57, 1)]  # more than 1.5 s after 4.1 s


def test_a_doubtful_face_waits_until_it_is_looked_for_again() -> None:
    tracker = Tracker(TrackConfig(hits=3, high_threshold=0.9))
    doubtful, no = faces(face(100, 80), score=0.7), np.array([False])
    tracker.update(doubtful, 0.0)
    for i in range(1, 5):
        assert tracker.update(NOBODY, i / 10, looked=no) == ([], [])
    tracker.update(doubtful, 0.5)
    assert numbers(tracker.update(doubtful, 0.6)[0]) == [1]
    other = Tracker(TrackConfig(hits=3, high_threshold=0.9))
    other.update(doubtful, 0.0)
    other.update(NOBODY, 0.1, looked=~no)
    assert len(other.expected(0.2)) == 0


@given(st.lists(st.lists(st.integers(0, 3), max_size=3, unique=True), max_size=12))
@settings(deadline=None)
def test_where_all_are_looked_for_nothing_changes(shown: list[list[int]]) -> None:
    plain, told = Tracker(TrackConfig(buffer_seconds=0.3)), Tracker(TrackConfig(buffer_seconds=0.3))
    for i, places in enumerate(shown):
        found = faces(*[face(100 + 150 * place + 4 * i, 80) for place in places])
        first = plain.update(found, i / 10)
        second = told.update(found, i / 10, looked=np.ones(len(told.expected(i / 10)), bool))
        for ours, theirs in zip(first, second, strict=True):
            assert numbers(ours) == numbers(theirs)
            assert all(np.array_equal(a.points, b.points) for a, b in zip(ours, theirs, strict=True))
            assert all(track.seen for track in theirs)
