from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcam.deploy.benchmark.a53.dump import part, read_dump, read_stages
from slimcam.deploy.benchmark.a53.elf import Functions

FUNCTIONS = Functions(
    np.array([0x100, 0x200, 0x300], np.uint64),
    np.array([0x100, 0x100, 0x100], np.uint64),
    ("xnn_f32_gemm_ukernel_6x8", "xnn_f32_vadd_ukernel", "pybind11_dispatcher"),
)
TENSOR = {"name": "model/conv/Conv2D", "shape": [1, 4, 4, 8], "dtype": "float32"}
GUEST: dict[str, Any] = {
    "runtime": "ai-edge-litert",
    "runtime_version": "2.3.0",
    "delegate": "XNNPACK",
    "delegated": 2,
    "left_out": [],
    "library": "/lib/litert.so",
    "maps": [[0x10000, 0x11000, 0x10000, "/lib/litert.so"], [0x20000, 0x21000, 0x20000, "/lib/numpy.so"]],
    "operators": [
        {"kind": "CONV_2D", "inputs": [TENSOR], "output": TENSOR},
        {"kind": "ADD", "inputs": [TENSOR, TENSOR], "output": {**TENSOR, "name": "model/add/add"}},
    ],
}
DUMP = """s 0 9 50 0 0 0 0
g 1 operator
s 1 1 7 14 0 3 1
s 1 2 7 7 7 0 0
s 1 3 2 0 0 0 0
g 2 operator
s 2 4 5 10 5 2 2
b 1 10100 2 0000000100000002
b 2 10108 1 00000003
b 3 1010c 1 00000003
b 4 10200 1 00000004
b 9 20000 1 00000004
o 00000001 ldr q0, [x1]
o 00000002 fmla v1.4s, v0.4s, v2.4s
o 00000003 b.ne #0x55017b777c
o 00000004 ret
"""


def test_blocks_are_joined_named_and_given_to_nodes(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(DUMP)
    profile = read_dump(tmp_path / "dump", GUEST, FUNCTIONS)
    conv, add, overhead = profile.operators
    first, exit_block = (profile.blocks[use.block] for use in conv.uses)
    # Two translated pieces that ran equally often are one block; addresses of branches are gone.
    assert first.code == ("ldr q0, [x1]", "fmla v1.4s, v0.4s, v2.4s", "b.ne")
    assert (conv.uses[0].runs, conv.uses[0].loads, conv.uses[0].stores, conv.uses[0].l1_misses) == (7, 21, 7, 3)
    assert exit_block.code == ("b.ne",)
    assert profile.blocks[add.uses[0].block].symbol == "xnn_f32_vadd_ukernel"
    assert (conv.layer, add.layer) == ("conv", "add")
    assert overhead.uses == ()
    assert profile.instructions() == 7 * 3 + 2 + 5
    assert profile.by_symbol() == {"xnn_f32_gemm_ukernel_6x8": 23, "xnn_f32_vadd_ukernel": 5}


def test_a_cut_dump_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text(DUMP[:60])
    with pytest.raises(ValueError, match="profile the model again"):
        read_dump(tmp_path / "dump", GUEST, FUNCTIONS)


CAMERA_FUNCTIONS = Functions(
    np.array([0x100, 0x200, 0x300], np.uint64),
    np.array([0x100, 0x100, 0x100], np.uint64),
    ("xnn_f32_gemm_ukernel_6x8", "TfLiteInvoke", "pybind11_dispatcher"),
)
PACKAGES = "/cache/device/opt/slimcam"
CAMERA_GUEST = {
    "library": f"{PACKAGES}/ai_edge_litert/libpywrap_litert_common.so",
    "maps": [
        [0x10000, 0x11000, 0x10000, f"{PACKAGES}/ai_edge_litert/libpywrap_litert_common.so"],
        [0x20000, 0x21000, 0x20000, f"{PACKAGES}/numpy/_core/_multiarray_umath.so"],
        [0x30000, 0x31000, 0x30000, f"{PACKAGES}/opencv_python_headless.libs/libavcodec.so.62"],
        [0x40000, 0x41000, 0x40000, "/cache/device/usr/bin/python3.11"],
        [0x50000, 0x51000, 0x50000, "/cache/device/lib/aarch64-linux-gnu/libc.so.6"],
    ],
}
CAMERA_DUMP = """s 0 4 9 0 0 0 0 0 0 0
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
    (tmp_path / "dump").write_text(CAMERA_DUMP)
    blocks, stretches = read_stages(tmp_path / "dump", CAMERA_GUEST, CAMERA_FUNCTIONS)
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
