from __future__ import annotations

import pytest

from slimcam.deploy.benchmark.a53.instructions import FLAGS, decode_instruction


def test_a_load_tells_its_address_its_target_and_the_moved_base() -> None:
    load = decode_instruction("ldp q4, q5, [x3], #0x20")
    assert (load.unit, load.writes, load.reads, load.base) == ("load", ("v4", "v5"), ("x3",), "x3")
    assert (load.transfers, load.halves) == (4, 2)
    assert decode_instruction("ldr d6, [x13, #8]").base is None
    assert decode_instruction("ld1 {v0.b}[3], [x1]").reads == ("x1", "v0")
    assert decode_instruction("ld1r {v0.4s}, [x1]").transfers == 1
    assert decode_instruction("ld1 {v0.16b, v1.16b}, [x1]").transfers == 4


def test_a_store_writes_no_register() -> None:
    store = decode_instruction("stp q0, q1, [x2, #16]!")
    assert (store.unit, store.writes, store.transfers, store.base) == ("store", (), 2, "x2")
    assert set(store.reads) == {"v0", "v1", "x2"}


@pytest.mark.parametrize(
    ("line", "accumulates", "halves"),
    [
        ("fmla v20.4s, v12.4s, v0.s[0]", "v20", 2),
        ("smlal v16.4s, v2.4h, v10.h[0]", "v16", 2),
        ("smlal2 v16.4s, v2.8h, v10.h[0]", "v16", 2),
        ("sadalp v4.4s, v5.8h", "v4", 2),
        ("fmadd s0, s1, s2, s3", None, 1),
        ("ins v3.d[1], x5", None, 1),
        ("sqxtn v0.4h, v0.4s", None, 1),
        ("sqxtn2 v0.8h, v1.4s", None, 2),
    ],
)
def test_neon_instructions_take_the_halves_that_they_write(line: str, accumulates: str | None, halves: int) -> None:
    found = decode_instruction(line)
    assert (found.unit, found.accumulates, found.halves) == ("neon", accumulates, halves)


def test_what_keeps_part_of_its_target_reads_it() -> None:
    assert "v0" in decode_instruction("sqxtn2 v0.8h, v1.4s").reads
    assert "v3" in decode_instruction("ins v3.d[1], x5").reads
    assert "x9" in decode_instruction("movk x9, #1, lsl #16").reads


def test_flags_tie_comparisons_to_what_depends_on_them() -> None:
    assert decode_instruction("cmp x0, #4").writes == (FLAGS,)
    assert FLAGS in decode_instruction("subs x0, x0, #4").writes
    assert FLAGS in decode_instruction("b.hs").reads
    assert FLAGS in decode_instruction("csel x1, x2, x3, lo").reads


def test_an_unknown_instruction_passes_for_a_simple_one() -> None:
    assert decode_instruction("frobnicate x1, x2").unit == "alu"
