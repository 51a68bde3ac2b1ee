"""The devices whose latency is predicted."""

from __future__ import annotations

from dataclasses import dataclass

# Peak arithmetic of one core in each cycle: a 128-bit FMLA is four float multiply-adds. For int8, SMULL, SMLAL2 and
# SADALP on 16 products take three cycles at best; there is no dot-product instruction.
PEAK_MACS = {"float32": 4.0, "int8": 16 / 3, "uint8": 16 / 3}
# Bytes that the load port moves in a cycle (Arm DDI 0500, Cortex-A53 Technical Reference Manual).
LOAD_BYTES = 8
# The data cache of a core, and the second-level cache that four cores share, on each of these chips.
L1_BYTES = 32 << 10
L2_BYTES = 512 << 10


@dataclass(frozen=True)
class Device:
    """A chip with Cortex-A53 cores.

    Attributes:
        name: Name of the chip, or of the board.
        clock_mhz: Clock of the cores.
        cores: Number of cores.
        memory_gbs: peak bandwidth of its memory, GB/s: transfers a second times the width of its bus.
    """

    name: str
    clock_mhz: float
    cores: int
    memory_gbs: float

    def __post_init__(self) -> None:
        if self.clock_mhz <= 0 or self.cores < 1 or self.memory_gbs <= 0:
            raise ValueError(f"a device needs a clock, one core or more and memory bandwidth above 0; got {self}")


# The chip that the timing model is fitted on: LPDDR3 at 1,866 million transfers a second on 32 bits.
REFERENCE_MEMORY_GBS = 7.464
