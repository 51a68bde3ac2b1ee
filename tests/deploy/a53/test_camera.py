from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.a53.camera import CameraPrediction, CameraRequest, Gap, compare, pixel_gap, table
from deploy.a53.device import Device
from deploy.a53.dump import part, read_stages
from deploy.a53.elf import Functions
from deploy.a53.latency import predict_ms, read_constants
from deploy.a53.profile import Block, Profile, Stretch, Use
from deploy.a53.stages import MISPREDICTED_CYCLES, RatePrediction, StagePrediction, predict
from deploy.a53.trial import COUNTED, Trial, read_gallery, stage_number, stage_of, write_gallery
from deploy.gallery.people import Person, Snapshot
from deploy.latency.record import Estimate
from deploy.types import Frame

DEVICE = Device("Snapdragon 625", 2000.0, 8, 7.464)
CONSTANTS = read_constants()
FUNCTIONS = Functions(
    np.array([0x100, 0x200, 0x300], np.uint64),
    np.array([0x100, 0x100, 0x100], np.uint64),
    ("xnn_f32_gemm_ukernel_6x8", "TfLiteInvoke", "pybind11_dispatcher"),
)
PACKAGES = "/cache/device/opt/slimcam"
GUEST = {
    "library": f"{PACKAGES}/ai_edge_litert/libpywrap_litert_common.so",
    "maps": [
        [0x10000, 0x11000, 0x10000, f"{PACKAGES}/ai_edge_litert/libpywrap_litert_common.so"],
        [0x20000, 0x21000, 0x20000, f"{PACKAGES}/numpy/_core/_multiarray_umath.so"],
        [0x30000, 0x31000, 0x30000, f"{PACKAGES}/opencv_python_headless.libs/libavcodec.so.62"],
        [0x40000, 0x41000, 0x40000, "/cache/device/usr/bin/python3.11"],
        [0x50000, 0x51000, 0x50000, "/cache/device/lib/aarch64-linux-gnu/libc.so.6"],
    ],
}
DUMP = """s 0 4 9 0 0 0 0 0 0 0
g 1 stage 7
s 1 4 5 5 0 0 0 3 1 2
s 1 2 1 0 0 0 0 0 0 0
g 2 operator
s 2 1 7 7 0 2 1 0 0 0
g 3 node
s 3 0 1 0 0 0 0 0 0 0
s 3 5 2 0 0 0 0 0 0 0
g 4 stage 8
s 4 3 4 0 0 0 0 0 0 0
s 4 4 1 0 0 0 0 0 0 1
s 4 6 1 0 0 0 0 0 0 0
b 0 10200 1 00000002
b 1 10100 1 00000001
b 2 10300 1 00000002
b 3 30000 1 00000001
b 4 40000 2 0000000100000002
b 5 50000 1 00000002
b 6 20000 1 00000002
o 00000001 ldr q0, [x1]
o 00000002 ret
"""


def test_a_dump_is_split_into_stages_and_everything_in_it_has_a_part(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(DUMP)
    blocks, stretches = read_stages(tmp_path / "dump", GUEST, FUNCTIONS)
    found = [
        (stretch.stage, {part(blocks[use.block].symbol): use.runs for use in stretch.uses}) for stretch in stretches
    ]
    # What ran before the first stage is nobody's; what a node does by itself belongs to the stage, and operators of the
    # delegate are apart.
    assert found == [(7, {"python": 5, "models": 1, "system": 2}), (7, {"models": 7}), (8, found[2][1])]
    assert found[2][1] == {"opencv": 4, "python": 1, "numpy": 1}
    interpreter = next(use for use in stretches[0].uses if blocks[use.block].symbol == "python/python3.11")
    assert (interpreter.runs, interpreter.fetch_l1_misses, interpreter.fetch_l2_misses, interpreter.mispredicted) == (
        *(5, 3, 1, 2),
    )
    assert "xnn_f32_gemm_ukernel_6x8" in {block.symbol for block in blocks}


def test_numbers_of_stages_tell_frame_and_stage() -> None:
    for frame in range(3):
        for name in COUNTED:
            assert stage_of(stage_number(frame, name)) == (frame, name)


KERNEL = Block("xnn_qs8_gemm_ukernel_4x16", ("smlal v16.4s, v2.4h, v10.h[0]", "ret"))
PYTHON = Block("python/python3.11", ("ldr x1, [x2]", "ret"))
COPY = Block("system/libc.so.6", ("ldr q0, [x1]", "str q0, [x2]"))


def test_a_model_takes_what_the_benchmark_predicts_for_it(profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v2_int8"]
    stretches = [Stretch(stage_number(0, "embed"), operator.uses) for operator in profile.operators]
    # Without the system's functions, which are a part of their own here.
    blocks = [Block(block.symbol.replace("/", "_"), block.code) for block in profile.blocks]
    stages, rates = predict(blocks, stretches, [1], DEVICE, CONSTANTS)
    embed = next(stage for stage in stages if stage.name == "embed")
    assert embed.ms.value == pytest.approx(predict_ms(profile, DEVICE, CONSTANTS), rel=1e-4)
    assert embed.ms.low == pytest.approx(embed.ms.value / (1 + CONSTANTS.band), rel=1e-3)
    assert (embed.instructions, embed.parts) == (profile.instructions(), {"models": profile.instructions()})
    assert rates == [RatePrediction(1, 1, 1, embed.ms, embed.ms.value, rates[0].fps)]
    assert rates[0].fps.value == pytest.approx(1000 / embed.ms.value, abs=0.01)


def test_code_that_is_no_kernel_waits_for_instructions_and_branches() -> None:
    quiet = Use(0, 1_000_000, 0, 0, 0, 0)
    waiting = Use(0, 1_000_000, 0, 0, 0, 0, fetch_l1_misses=30_000, fetch_l2_misses=10_000, mispredicted=50_000)
    front_end = (20_000 * CONSTANTS.l1_miss_cycles + 50_000 * MISPREDICTED_CYCLES) / 2e6
    front_end += 10_000 * CONSTANTS.l2_miss_ns / 1e6

    def ms(block: Block, use: Use) -> Estimate:
        stages, _ = predict([block], [Stretch(stage_number(0, "track"), (use,))], [0], DEVICE, CONSTANTS)
        return next(stage.ms for stage in stages if stage.name == "track")

    before, after = ms(PYTHON, quiet), ms(PYTHON, waiting)
    assert after.value - before.value == pytest.approx(front_end, abs=2e-3)
    # The least is without them, the most with.
    assert (after.low, after.high) == (before.low, pytest.approx(after.value / (1 - CONSTANTS.band), rel=1e-3))
    assert ms(KERNEL, waiting) == ms(KERNEL, quiet)


def test_frames_are_told_apart_by_their_faces_and_reading_them_is_not_their_time() -> None:
    def stretch(frame: int, stage: str, block: int, runs: int) -> Stretch:
        return Stretch(stage_number(frame, stage), (Use(block, runs, 0, 0, 0, 0),))

    stretches = [
        *(stretch(2, "source", 2, 9_000_000), stretch(2, "detect", 1, 1_000_000)),
        *(stretch(3, "source", 2, 9_000_000), stretch(3, "detect", 1, 1_000_000), stretch(3, "embed", 0, 2_000_000)),
        *(stretch(4, "detect", 1, 1_000_000), stretch(4, "rest", 1, 500_000)),
    ]
    stages, rates = predict([KERNEL, PYTHON, COPY], stretches, [0, 1, 1], DEVICE, CONSTANTS, first=2)
    assert [stage.name for stage in stages] == list(COUNTED)
    by_name = {stage.name: stage for stage in stages}
    assert by_name["source"].parts == {"system": 12_000_000}
    assert by_name["detect"].instructions == 2_000_000
    assert by_name["embed"].parts == {"models": 1_333_333}
    assert by_name["align"].instructions == 0
    assert [(rate.faces, rate.frames, rate.embedded) for rate in rates] == [(0, 1, 0), (1, 2, 1)]
    none, one = rates
    assert none.ms.value == by_name["detect"].ms.value
    assert one.slowest_ms > one.ms.value > none.ms.value
    assert one.fps.low < one.fps.value < one.fps.high


FACE: dict[str, Any] = {
    "track": 1,
    "points": [[30, 30], [60, 30], [45, 48], [32, 64], [58, 64]],
    "flaws": [],
    "looked_at": True,
    "person": "a",
    "score": 0.7,
}


def answer(*faces: dict[str, Any]) -> dict[str, Any]:
    return {"number": 4, "seconds": 0.4, "faces": list(faces)}


def test_the_same_answers_have_no_differences() -> None:
    assert compare([answer(FACE)], [answer(FACE)]) == ([], Gap(0.0, 0.0))
    near = {**FACE, "points": [[x + 0.1, y] for x, y in FACE["points"]], "score": 0.705}
    assert compare([answer(near)], [answer(FACE)]) == ([], Gap(0.1, 0.005))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"person": None}, "frame 4, face 1: person a here, None on the emulated ARM"),
        ({"person": "b"}, "person a here, b"),
        ({"flaws": ["small"]}, r"flaws \[\] here"),
        ({"looked_at": False, "score": None}, "looked_at True here"),
        ({"track": 2}, "frame 4: faces 1 here, 2 on the emulated ARM"),
        ({"score": 0.6}, "scores differ by 0.100"),
        ({"points": [[x + 3, y] for x, y in FACE["points"]]}, "points are 3.00 pixels apart"),
        ({"points": [[float("nan"), y] for _, y in FACE["points"]]}, "points are nan pixels apart"),
    ],
)
def test_other_answers_are_told(change: dict[str, Any], message: str) -> None:
    differences, _ = compare([answer({**FACE, **change})], [answer(FACE)])
    assert any(re.search(message, line) for line in differences), differences


def test_a_face_or_frame_that_lacks_is_a_difference_and_other_pixels_excuse_figures_alone() -> None:
    assert compare([answer()], [answer(FACE)])[0] == ["frame 4: faces 1 here, none on the emulated ARM"]
    assert compare([], [answer(FACE)])[0] == ["0 frames on the emulated ARM, 1 on this machine"]
    far = {**FACE, "score": 0.6, "flaws": ["small"], "points": [[x + 3, y] for x, y in FACE["points"]]}
    assert compare([answer(far)], [answer(FACE)], judge_figures=False) == ([], Gap(3.0, 0.1))
    assert compare([answer({**FACE, "person": None})], [answer(FACE)], judge_figures=False)[0]


def test_pixels_are_compared_without_wrapping_around() -> None:
    black, white = (Frame(np.full((2, 2, 3), value, np.uint8), 0, 0.0, 0.0) for value in (0, 255))
    assert pixel_gap([black], [white]) == (255, 255.0)
    assert pixel_gap([black, black], [black, white]) == (255, 127.5)


def test_a_gallery_reaches_the_device_without_names(tmp_path: Path) -> None:
    people = tuple(Person(f"{i:032x}", f"Name {i}", 1, 0.0, None, "drawn") for i in range(2))
    embeddings = np.eye(3, 4, dtype=np.float32)
    write_gallery(Snapshot(1, people, embeddings, np.array([0, 0, 1])), tmp_path / "gallery.npz")
    assert b"Name" not in (tmp_path / "gallery.npz").read_bytes()
    found = read_gallery(tmp_path / "gallery.npz")
    assert [person.id for person in found.people] == [person.id for person in people]
    assert (found.embeddings == embeddings).all()
    assert found.owners.tolist() == [0, 0, 1]


def test_an_empty_gallery_reaches_it_too(tmp_path: Path) -> None:
    write_gallery(Snapshot(0, (), np.empty((0, 4), np.float32), np.empty(0, np.int64)), tmp_path / "gallery.npz")
    assert read_gallery(tmp_path / "gallery.npz").embeddings.shape == (0, 4)


def test_a_trial_is_read_back_as_it_was(tmp_path: Path) -> None:
    trial = Trial("clip.mp4", "d", "r", None, 0.4, 0.05, frames=3, track={"patience": 2.0})
    trial.write(tmp_path / "trial.json")
    assert Trial.read(tmp_path / "trial.json") == trial


def request(source: str, **changes: Any) -> CameraRequest:
    return CameraRequest(source, Path("d"), Path("r"), None, 0.4, 0.05, **changes)


def test_what_cannot_be_emulated_is_refused(tmp_path: Path) -> None:
    for source in ("0", "rtsp://user:secret@camera/", str(tmp_path / "none.mp4")):
        with pytest.raises(FileNotFoundError, match="an emulated device has no camera") as refusal:
            request(source)
        assert "secret" not in str(refusal.value)
    with pytest.raises(ValueError, match="1 frame or more"):
        request(str(tmp_path), frames=0)


def test_a_prediction_is_json_and_a_table() -> None:
    estimate = Estimate(1.0, 2.0, 3.0)
    prediction = CameraPrediction(
        device="Snapdragon 625",
        clock_mhz=2000.0,
        warmup=2,
        frames=5,
        size=(640, 360),
        stages=[StagePrediction("detect", estimate, 4_000_000, {"models": 3_000_000, "python": 1_000_000})],
        rates=[RatePrediction(1, 5, 2, estimate, 4.0, Estimate(333.33, 500.0, 1000.0))],
        seen=[answer(FACE)],
        differences=["frame 4: faces 1 here, none on the emulated ARM"],
        gap=Gap(0.01, 0.0002),
        decoded_gap=Gap(0.3, 0.004),
        decoding=(4, 0.8),
    )
    assert json.loads(json.dumps(asdict(prediction)))["rates"][0]["faces"] == 1
    text = table(prediction)
    assert "4.00 M" in text
    assert "75%" in text
    assert prediction.differences[0] in text
    assert max(map(len, text.splitlines())) <= 140
