"""Functions of an ELF file of 64 bits and where they lie: what `nm` shows, without `nm`."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SYMBOL_TABLE, _FUNCTION = 2, 2
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)


@dataclass(frozen=True)
class Functions:
    """The functions of a file, by ascending address. `addresses` and `sizes` are in bytes, from the file's base."""

    addresses: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    names: tuple[str, ...]

    def find(self, name: str) -> tuple[int, int]:
        """First address of a function and the one after its last.

        Raises:
            KeyError: there is no such function.
        """
        try:
            place = self.names.index(name)
        except ValueError:
            raise KeyError(name) from None
        start = int(self.addresses[place])
        return start, start + int(self.sizes[place])

    def at(self, address: int) -> str:
        """The function that holds an address: the last one that begins at or before it."""
        place = int(np.searchsorted(self.addresses, address, side="right")) - 1
        return self.names[place] if place >= 0 else "?"


def read_functions(path: Path) -> Functions:
    """Reads the symbol table.

    Raises:
        ValueError: it is no ELF file of 64 bits, or one without a symbol table.
    """
    content = path.read_bytes()
    if content[:5] != b"\x7fELF\x02":
        raise ValueError(f"{path}: not an ELF file of 64 bits")
    (table,), (count,) = struct.unpack_from("<Q", content, 0x28), struct.unpack_from("<H", content, 0x3C)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, table + 64 * i) for i in range(count)]
    for section in sections:
        if section[1] != _SYMBOL_TABLE:
            continue
        symbols = np.frombuffer(content, _SYMBOL, section[5] // _SYMBOL.itemsize, section[4])
        symbols = symbols[(symbols["info"] & 15) == _FUNCTION]
        symbols = symbols[np.argsort(symbols["value"], kind="stable")]
        strings = sections[section[6]][4]
        starts = strings + symbols["name"].astype(np.int64)
        names = tuple(content[start : content.index(b"\0", start)].decode() for start in starts.tolist())
        return Functions(symbols["value"], symbols["size"], names)
    raise ValueError(f"{path}: it has no symbol table")
