from __future__ import annotations

import struct
from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.elf import read_functions


def elf(symbols: list[tuple[str, int, int, int]]) -> bytes:
    """A file with nothing but a symbol table: name, info, address, size."""
    strings, entries = b"\0", b"\0" * 24
    for name, info, address, size in symbols:
        entries += struct.pack("<IBBHQQ", len(strings), info, 0, 1, address, size)
        strings += name.encode() + b"\0"
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    sections = 64 + len(entries) + len(strings)
    struct.pack_into("<Q", header, 0x28, sections)
    struct.pack_into("<H", header, 0x3C, 2)
    table = struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 64, len(entries), 1, 0, 0, 24)
    names = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(entries), len(strings), 0, 0, 0, 1)
    return bytes(header) + entries + strings + table + names


def test_functions_are_found_by_name_and_by_address(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(elf([("late", 2, 0x500, 16), ("early", 18, 0x100, 8), ("data", 1, 0x120, 8)]))
    functions = read_functions(tmp_path / "lib.so")
    assert functions.names == ("early", "late")
    assert functions.find("late") == (0x500, 0x510)
    assert [functions.at(address) for address in (0x50, 0x100, 0x4FF, 0x500)] == ["?", "early", "early", "late"]
    with pytest.raises(KeyError):
        functions.find("data")


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x01" + b"\0" * 80, b"\x7fELF\x02" + b"\0" * 80])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lib.so").write_bytes(content)
    with pytest.raises(ValueError, match=r"lib\.so"):
        read_functions(tmp_path / "lib.so")
