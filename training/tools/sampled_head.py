"""What a classification head of very many identities costs, whole and sampled (Partial FC).

    python -m slimcam.training.tools.sampled_head --identities 200000 --sample 1 0.1

Trains a network so small that the head is what counts, with `loss.sample` at each share, in a process of its own. The
table has its peak memory, that of the same fit with ten identities subtracted, and the median time of a step; on a busy
machine times compare only with each other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid
from slimcam.training.data.images import IMAGE_SIZE
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.recognition.config import LossConfig

INPUT = 16
"""Side of the network's images, pixels."""


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.sampled_head",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--identities", type=int, default=200_000, help="number of them (%(default)s)")
    parser.add_argument("--embedding", type=int, default=512, help="dimensions of the embedding (%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--sample", type=float, nargs="+", default=[1.0, 0.1], help="shares of the identities (1 0.1)")
    parser.add_argument("--steps", type=int, default=20, help="of each fit (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        losses = [LossConfig(sample=share) for share in options.sample]
        if min(options.identities, options.embedding, options.batch, options.steps) < 1:
            raise ValueError("identities, embedding, batch and steps are 1 or more")
    except ValueError as error:
        sys.exit(f"sampled_head: {error}")
    bare, _ = _in_process(10, LossConfig(), options)
    rows = [("sample", "peak, MB", "of the head", "ms a step")]
    for loss in losses:
        peak, milliseconds = _in_process(options.identities, loss, options)
        rows.append((f"{loss.sample:g}", f"{peak:,.0f}", f"{peak - bare:,.0f}", f"{milliseconds:,.0f}"))
    show(grid(rows))


def _in_process(identities: int, loss: LossConfig, options: argparse.Namespace) -> tuple[float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(cost, (identities, loss, options.embedding, options.batch, options.steps))


def cost(identities: int, loss: LossConfig, embedding: int, batch: int, steps: int) -> tuple[float, float]:
    """Peak memory of this process in MB and the median milliseconds of a step, of a fit of `steps` steps."""
    import keras

    from slimcam.training.fit.fit import fit
    from slimcam.training.tasks.recognition.centers import sampled_centers
    from slimcam.training.tasks.recognition.model import with_classifier
    from slimcam.training.tasks.recognition.task import objective

    inputs = keras.Input((INPUT, INPUT, 3))
    outputs = keras.layers.Dense(embedding, name="embedding")(keras.layers.GlobalAveragePooling2D()(inputs))
    sampled = sampled_centers(loss, identities, embedding, batch, seed=0) if loss.sample < 1 else None
    count = identities if sampled is None else sampled.count
    learner = with_classifier(keras.Model(inputs, outputs), count, keras=keras)
    labels = np.random.default_rng(0).integers(identities, size=batch * steps, dtype=np.int32)
    # One light image in as many places as there are labels: it takes no memory.
    images = np.broadcast_to(np.uint8(200), (len(labels), IMAGE_SIZE, IMAGE_SIZE, 3))
    batches = Batches(FaceSet(images, labels, tuple(map(str, range(identities)))), batch, None, seed=0)
    config = FitConfig(epochs=1.0, batch_size=batch, log_seconds=0.0)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(learner, batches, config, objective(loss), Path(folder), keras=keras, sampled=sampled)
    seconds = [batch / entry["images_per_second"] for entry in history]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1000 * float(np.median(seconds))


if __name__ == "__main__":
    main()
