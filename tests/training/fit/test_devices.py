"""What the devices of a training are fast at."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import keras
import pytest

from slimcam.training.fit.devices import multiplies_bfloat16


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu sse2 avx2 fma", False),
        ("Features\t: fp asimd i8mm bf16", True),
        ("Features\t: fp asimd", False),
        (None, True),
    ],
)
def test_bfloat16_saves_time_where_the_processor_multiplies_it_or_nothing_is_known(cpuinfo, fast, tmp_path):
    if cpuinfo is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{cpuinfo}\n")
    assert multiplies_bfloat16(keras, tmp_path) == fast


def test_an_accelerator_multiplies_it(tmp_path, monkeypatch):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags : avx2")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert multiplies_bfloat16(keras, tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_pytorch_says_itself_whether_it_has_an_accelerator(there, tmp_path, monkeypatch):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags : avx2")
    no, yes = (SimpleNamespace(is_available=lambda found=found: found) for found in (False, there))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=yes, backends=SimpleNamespace(mps=no)))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert multiplies_bfloat16(keras, tmp_path) == there
