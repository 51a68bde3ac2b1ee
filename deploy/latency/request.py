"""What a measurement is asked for: numbers of threads, amounts, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimcam.deploy.inference.bundle import BUNDLED, load_bundle


def thread_counts(threads: Any) -> list[int]:
    """The numbers of threads that a configuration asks for, in its order.

    Raises:
        ValueError: it is neither a number nor a list of different numbers.
    """
    counts = list(threads) if isinstance(threads, Sequence) and not isinstance(threads, str) else [threads]
    if not counts or len(set(counts)) < len(counts) or any(type(count) is not int for count in counts):
        raise ValueError(f"threads is a number or a list of different ones, as in [1,2,4]; got {threads!r}")
    return counts


def check_sampling(threads: Any, samples: int, warmup: int, seconds: float) -> None:
    """Raises:
    ValueError: `threads` is as `thread_counts` refuses it, or one of the amounts is too small.
    """
    if min(thread_counts(threads)) < 1 or samples < 1 or warmup < 0 or seconds < 0:
        raise ValueError(
            "a benchmark needs 1 or more threads and samples, and no negative warmup or seconds; "
            f"got threads={threads}, samples={samples}, warmup={warmup}, seconds={seconds}"
        )


def model_files(models: Mapping[str, Path]) -> dict[str, Path]:
    """The .tflite file of each model, by name.

    Raises:
        FileNotFoundError: there is no such file or bundle.
        ValueError: there are no models, or a bundle is damaged.
    """
    if not models:
        raise ValueError("there are no models to measure; name one or more")
    return {name: model_file(path) for name, path in models.items()}


def model_file(path: Path) -> Path:
    """The .tflite file of a path that names one, or a bundle, which is checked.

    Raises:
        FileNotFoundError: there is no such file or bundle.
        ValueError: the bundle is damaged.
    """
    if path.is_dir():
        return load_bundle(path).model
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such .tflite file or bundle; those that come with slimcam are {' and '.join(BUNDLED)}"
        )
    return path
