"""The pairing rules that ncnn measured on the Cortex-A53, one small block each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.benchmark.a53.issue import cycles

FMLA = [f"fmla v{n}.4s, v{n + 8}.4s, v{n + 16}.4s" for n in range(8)]
SMALL = [f"fmla v{n}.2s, v{n + 8}.2s, v{n + 16}.2s" for n in range(8)]
LOADS = [f"ldr q{n}, [x{n}]" for n in range(24, 28)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (FMLA, 8),  # one 128-bit FMLA a cycle
        (SMALL, 4),  # two 64-bit ones
        ([FMLA[0]] * 4, 16),  # a sum waits 4 cycles for itself
        (["fmul v0.4s, v0.4s, v1.4s"] * 2, 8),  # the result of a product is ready after 4
        (LOADS, 8),  # 128 bits through a port of 64
        ([f"ldr d{n}, [x{n}]" for n in range(24, 28)], 4),
        ([*FMLA[:4], *LOADS[:2]], 8),  # a 128-bit load keeps the NEON unit and the port for 2 cycles
        (["ldr x1, [x2]", "fmla v0.4s, v8.4s, v16.4s", "ldr x3, [x4]", "fmla v1.4s, v8.4s, v16.4s"], 4),
        (["add x1, x2, #1", "add x3, x4, #1"], 1),
        (["add x1, x1, #1", "add x1, x1, #1"], 2),
        (["mul x1, x2, x3", "mul x4, x5, x6"], 2),  # one multiplier
        (["subs x0, x0, #4", "b.hs"], 1),
        (["ldr x1, [x1]"], 3),  # from load to use
        (["ldr q0, [x1], #16"], 2),  # the address is ready long before the data
    ],
)
def test_a_block_takes_what_the_pipeline_needs(code: list[str], expected: float) -> None:
    assert cycles(tuple(code)) == expected


@given(st.lists(st.sampled_from([*FMLA, *SMALL, *LOADS, "add x1, x2, x3", "mul x4, x5, x6", "nop"]), min_size=1))
def test_never_more_than_two_instructions_nor_128_bits_of_neon_start_in_a_cycle(code: list[str]) -> None:
    halves = sum(2 if ".4s" in line or line.startswith("ldr q") else int(".2s" in line) for line in code)
    assert cycles(tuple(code)) >= max(len(code) / 2, halves / 2, 2 * sum(line.startswith("ldr q") for line in code))
