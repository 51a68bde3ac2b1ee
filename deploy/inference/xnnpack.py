"""XNNPACK's int8 kernels in tflite-runtime, which holds them and leaves them off.

Its wheels are built without `XNNPACK_DELEGATE_ENABLE_QS8`, so that the delegate that it applies by itself takes float
operators alone, and an int8 model runs on TFLite's own kernels: slower, and with other rounding. The functions that
make a delegate are exported (`tensorflow/lite/delegates/xnnpack/xnnpack_delegate.h` of TensorFlow 2.14), and make one
that takes int8 operators too. The wheel for 32-bit ARM has no XNNPACK at all. ai-edge-litert needs none of this.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib import import_module
from typing import Any

_QS8, _QU8 = 1, 2


class _Options(ctypes.Structure):
    """`TfLiteXNNPackDelegateOptions`: all versions begin so, and zeros mean the defaults of what follows."""

    _fields_ = (("num_threads", ctypes.c_int32), ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 120))


class _Delegate:
    """What an `Interpreter` of tflite-runtime takes as a delegate, and keeps as long as it lives."""

    def __init__(self, native: Any, pointer: int) -> None:
        self._native, self._pointer = native, pointer

    def _get_native_delegate_pointer(self) -> int:
        return self._pointer

    def __del__(self) -> None:
        self._native.TfLiteXNNPackDelegateDelete(ctypes.c_void_p(self._pointer))


def opened(library: Any, threads: int, **source: Any) -> Any:
    """The `Interpreter` of a runtime for a model, its tensors allocated; XNNPACK runs int8 operators.

    Args:
        library: the runtime's module with the `Interpreter` class.
        threads: Number of threads of the interpreter.
        source: `model_path` or `model_content`.

    Raises:
        ValueError, RuntimeError: what the runtime raises of a model that it does not open.
    """
    delegates = _int8_delegates(library, threads)
    if delegates:
        with suppress(RuntimeError):  # XNNPACK of 2023 refuses it: TFLite's own kernels may take it
            return _allocated(library.Interpreter(**source, num_threads=threads, experimental_delegates=delegates))
    return _allocated(library.Interpreter(**source, num_threads=threads))


def _allocated(interpreter: Any) -> Any:
    interpreter.allocate_tensors()
    return interpreter


def _int8_delegates(library: Any, threads: int) -> list[Any]:
    if library.__name__ != "tflite_runtime.interpreter":
        return []
    wrapper = import_module("tflite_runtime._pywrap_tensorflow_interpreter_wrapper")
    native = ctypes.CDLL(str(wrapper.__file__))
    if not hasattr(native, "TfLiteXNNPackDelegateCreate"):
        return []
    native.TfLiteXNNPackDelegateCreate.restype = ctypes.c_void_p
    pointer = native.TfLiteXNNPackDelegateCreate(ctypes.byref(_Options(threads, _QS8 | _QU8)))
    # XNNPACK makes none on a CPU that it does not know.
    return [] if pointer is None else [_Delegate(native, pointer)]
