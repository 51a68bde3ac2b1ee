"""How fast faces come from folders, records and shards, beside the same faces in memory.

    python -m slimcam.training.tools.loading FACES [FACES ...] --workers 0 1 2

Each FACES is a folder for each person, a folder with train.rec, or one with .tar files, as
`slimcam.training.tools.convert_faces` makes them. For each it prints the seconds until it is open; and for each number
of worker threads (0 loads in the training thread itself) the images a second of loading alone, the milliseconds of the
processors that an image takes, which a busy machine changes little, and the images a second of training a network
so small that loading hurts, beside the same network fed with one batch over and over.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batch, Batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.accelerate import accelerated
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.own_backbones import small_resnet
from slimcam.training.tools.convert_faces import open_faces

IN_MEMORY = 2000
"""Images of the set in memory."""

EMBEDDING = 64

Rows = list[tuple[str, ...]]


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.loading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faces", nargs="+", type=Path)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="numbers of threads (0 1 2)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side of the images, pixels (%(default)s)")
    parser.add_argument("--width", type=int, default=24, help="width of the network (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="without augmentation")
    parser.add_argument("--open", action="store_true", help="measures opening alone")
    options = parser.parse_args(arguments)
    try:
        if min(options.workers) < 0:
            raise ValueError(f"workers is 0 or more; got {options.workers}")
        sets, rows = opened(options.faces)
        show(grid(rows))
        if not options.open:
            show("\n" + grid(speeds(sets, options)))
    except (ValueError, OSError) as error:
        sys.exit(f"loading: {error}")


def opened(paths: Sequence[Path]) -> tuple[dict[str, FaceSet], Rows]:
    """Opens sets, each as it is opened for training; a row for each, with the memory of the process so far.

    Raises:
        FileNotFoundError, ValueError: a set is not there, or damaged.
    """
    sets: dict[str, FaceSet] = {}
    rows: Rows = [("faces", "images", "open, s", "CPU s", "memory, MB")]
    for path in paths:
        start, used = time.perf_counter(), time.process_time()
        sets[path.name] = faces = open_faces(path)
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
        rows.append((path.name, f"{len(faces):,}", f"{seconds:.2f}", f"{cpu:.2f}", f"{_own_memory_mb():.0f}"))
    return sets, rows


def speeds(sets: Mapping[str, FaceSet], options: argparse.Namespace) -> Rows:
    """Images a second of each set and number of workers, after those of one batch over and over."""
    step = _training_step(options)
    first = next(iter(sets.values()))
    chosen = np.arange(min(IN_MEMORY, len(first)))
    pixels = np.stack([first.images[int(index)] for index in chosen])
    memory = FaceSet(pixels, first.labels[chosen], first.identities)
    one = _batches(memory, options).batch(0, options.size)
    bound, _ = _rate(step, itertools.repeat(one), options)
    rows: Rows = [
        ("faces", "workers", "loading alone", "CPU ms an image", "training", "of one batch"),
        ("one batch", "", "", "", f"{bound:.0f}", ""),
    ]
    for name, faces in {"in memory": memory, **sets}.items():
        for workers in options.workers:
            alone, cpu_ms = _rate(lambda _: None, _stream(faces, workers, options), options)
            training, _ = _rate(step, _stream(faces, workers, options), options)
            figures = (f"{alone:.0f}", f"{cpu_ms:.2f}", f"{training:.0f}", f"{100 * training / bound:.1f} %")
            rows.append((name, str(workers), *figures))
    return rows


def _batches(faces: FaceSet, options: argparse.Namespace) -> Batches:
    return Batches(faces, options.batch, None if options.plain else AugmentConfig(), seed=0)


def _stream(faces: FaceSet, workers: int, options: argparse.Namespace) -> Iterator[Batch]:
    batches = replace(_batches(faces, options), workers=workers)
    if workers:
        return batches.stream([options.size] * 1_000_000)
    return (batches.batch(step, options.size) for step in itertools.count())


def _training_step(options: argparse.Namespace) -> Callable[[Batch], object]:
    """A step of a small network, accelerated as in training."""
    import keras

    features = small_resnet((options.size, options.size, 3), options.width)
    outputs = keras.layers.Dense(EMBEDDING)(keras.layers.GlobalAveragePooling2D()(features.output))
    learner = accelerated(keras.Model(features.input, outputs), FitConfig())
    learner.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    targets = np.zeros((options.batch, EMBEDDING), np.float32)
    return lambda batch: learner.train_on_batch(batch.images, targets)


def _rate(
    step: Callable[[Batch], object], batches: Iterator[Batch], options: argparse.Namespace
) -> tuple[float, float]:
    """Images a second, and milliseconds of all processors for each.

    The first steps, in which graphs are made and queues filled, do not count.
    """
    for _ in range(5):
        step(next(batches))
    count, start, used = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - start) < options.seconds:
        step(next(batches))
        count += 1
    if isinstance(batches, Generator):
        batches.close()
    images = count * options.batch
    return images / elapsed, 1000 * (time.process_time() - used) / images


def _own_memory_mb() -> float:
    """Memory of this process without the pages of mapped files, which the system takes back when it needs them."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(fields["RssAnon"].split()[0]) / 1000


if __name__ == "__main__":
    main()
