"""The devices of a training: what they are fast at, and several of them, or processes, that share each batch.

Keras 3 has data parallelism on JAX alone. The whole step is computed as one program over all devices, so that
statistics of normalization, the clipping of gradients and losses are those of the whole batch: a training is that on
one device but for rounding.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.messages import first_line
from slimcam.training.fit.config import FitConfig

_LOST = ("Gloo", "NCCL", "UNAVAILABLE")
"""What errors of JAX say of a process that does not answer."""


_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux calls the instructions of x86 and ARM processors that multiply bfloat16."""


def multiplies_bfloat16(keras: Any, root: Path = Path("/")) -> bool:
    """Whether bfloat16 saves time: on an accelerator, and on a processor that has instructions for it.

    Others emulate it, many times slower than float32. A system without /proc/cpuinfo does not tell: there it is taken
    to save time.
    """
    if _on_accelerator(keras):
        return True
    try:
        words = (root / "proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return True
    return not _BFLOAT16.isdisjoint(words)


def _on_accelerator(keras: Any) -> bool:
    if keras.backend.backend() == "torch":  # of whose devices Keras keeps no list
        torch = importlib.import_module("torch")
        return bool(torch.cuda.is_available() or torch.backends.mps.is_available())
    return any(not device.startswith("cpu") for device in keras.distribution.list_devices())


def join_processes(keras: Any) -> None:
    """Joins the processes that KERAS_DISTRIBUTION_JOB_ADDRESSES and its like name, before anything is computed."""
    if os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES") and keras.backend.backend() == "jax":
        keras.distribution.initialize()


def data_parallel(config: FitConfig, keras: Any) -> Any:
    """The `keras.distribution.DataParallel` of a fit, or None where one device computes alone.

    Args:
        config: Its `devices` and `batch_size`.
        keras: Module of the model, `keras` or `tf_keras`.

    Raises:
        ValueError: the backend knows no such thing, there are not as many devices, processes have others that the fit
            leaves out, or the devices cannot share a batch equally.
    """
    count = config.devices
    if keras.backend.backend() != "jax":
        if count > 1:
            raise ValueError(f"fit.devices={count}: several devices train on JAX alone: set backend=jax")
        return None
    devices = keras.distribution.list_devices()
    if count > len(devices):
        raise ValueError(f"fit.devices is {count}, but JAX finds {len(devices)}: {', '.join(devices)}")
    found = keras.distribution.DataParallel(devices=devices[:count])
    if found.num_processes > 1 and count < len(devices):
        raise ValueError(
            f"fit.devices is {count}, but the {found.num_processes} processes have {len(devices)} devices together: "
            f"give fit.devices={len(devices)}"
        )
    if config.batch_size % count:
        raise ValueError(
            f"fit.batch_size is {config.batch_size}, which {count} devices cannot share equally: give a multiple of "
            f"{count}"
        )
    return found if count > 1 else None


@contextmanager
def scope(distribution: Any) -> Iterator[None]:
    """Where variables and batches are those of all devices.

    Raises:
        ConnectionError: another process of the training has ended.
    """
    if distribution is None:
        yield
        return
    try:
        with distribution.scope():
            yield
    except Exception as error:
        if distribution.num_processes == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        raise ConnectionError(
            "another process of this training has ended or is out of reach; start all of them again, and they go on "
            f"from the checkpoint of process 0 ({first_line(error)})"
        ) from error


def own_rows(distribution: Any, batch: Any, keras: Any) -> Any:
    """The rows of a batch, arrays in any structure, that this process brings to it."""
    if distribution is None or distribution.num_processes == 1:
        return batch
    number, processes = distribution.data_shard_id, distribution.num_processes

    def rows(array: Any) -> Any:
        count = len(array) // processes
        return array[number * count : (number + 1) * count]

    return keras.tree.map_structure(rows, batch)


def take_from_first(distribution: Any, path: Path) -> None:
    """Makes a file of every process that of the first, or removes it where the first has none."""
    if distribution is None or distribution.num_processes == 1:
        return
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = np.fromfile(path, np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    # JAX has integers of 32 bits.
    high, low = broadcast_one_to_all(np.array(divmod(len(content), 1 << 30), np.int32))
    length = (int(high) << 30) + int(low)
    if distribution.data_shard_id == 0:
        if length:
            broadcast_one_to_all(content)
    elif length:
        content = broadcast_one_to_all(np.zeros(length, np.uint8))
        with atomic(path) as partial:
            content.tofile(partial)
    else:
        path.unlink(missing_ok=True)
