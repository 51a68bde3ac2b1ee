"""How much of `keras.applications` pruning covers: `python -m slimcam.compression.coverage prune --json FILE`.

Every constructor is built with random weights at its own input size, with its classifier, and written in normal form.
70 % of the channels are removed by one ranking of all of them, kept ones in multiples of 8, and the cut model is
compared with the masked one on an image of noise. A row for each model is added to FILE as it is done; models that
FILE has a row of are skipped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.common.messages import did_you_mean, first_line

if TYPE_CHECKING:
    from slimcam.compression.pruning.graph import ChannelGraph

_RATIO = 0.7
_IMAGES = 1
_SIDE = 224
"""Input of the constructors that leave it open."""
_BORDERS = ("model input", "model output")
"""Reasons of channels that no pruning may remove; they count neither as frozen nor as channels."""


@dataclass
class Row:
    """One model.

    Attributes:
        model: Constructor in `keras.applications`.
        parameters: Before and after the cut.
        macs: Before and after the cut.
        channels: Channels that layers compute, those of the model's outputs left out.
        frozen_share: Share of `channels` that cannot be removed.
        frozen_by: Number of channels by the reason why they cannot.
        cut_vs_mask: Largest difference of the outputs of the cut and the masked model, as a share of the largest.
        seconds: Trace, plan and cut, in processor time, which other work on the machine hardly changes.
        error: What went wrong, in one line.
    """

    model: str
    parameters: tuple[int, int] | None = None
    macs: tuple[int, int] | None = None
    channels: int | None = None
    frozen_share: float | None = None
    frozen_by: dict[str, int] = field(default_factory=dict)
    cut_vs_mask: float | None = None
    seconds: float | None = None
    error: str = ""


def pruned(name: str) -> Row:
    """Prunes one model of `keras.applications`."""
    row = Row(name)
    try:
        _prune(_randomized(_built(name)), row)
    except Exception as error:  # whatever it is, it is what the row is for
        row.error = f"{type(error).__name__}: {first_line(error)}"
    return row


def _built(name: str) -> Any:
    import keras

    from slimcam.compression.coverage import constructors

    if name not in constructors():
        raise ValueError(f"keras.applications has no {name}{did_you_mean(name, constructors())}")
    keras.utils.set_random_seed(0)
    options = {"input_shape": (_SIDE, _SIDE, 3)} if name.startswith("MobileNetV3") else {}
    return getattr(keras.applications, name)(weights=None, classifier_activation=None, **options)


def _randomized(model: Any) -> Any:
    """Factors, offsets and statistics as of a trained network: fresh zeros and ones would hide mistakes."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, (keras.Model, keras.layers.Normalization)):
            continue
        for weight in layer.weights:
            if len(weight.shape) != 1 or weight.dtype != "float32":
                continue
            factor = weight.name in ("gamma", "moving_variance") or type(layer).__name__ == "LayerScale"
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) if factor else rng.normal(0, 0.1, weight.shape))
    return model


def _prune(given: Any, row: Row) -> None:
    import keras
    import numpy as np

    from slimcam import compression
    from slimcam.compression.pruning.surgery import mask

    model = compression.normalize(given).model
    images = np.random.default_rng(0).uniform(-1, 1, (_IMAGES, *model.inputs[0].shape[1:])).astype(np.float32)
    compression.recalibrate_batch_norm(model, [images])
    started = time.process_time()
    graph = compression.trace(model)
    config = compression.PruningRatioConfig(ratio=_RATIO, allocation="global", round_to=8)
    plan = compression.plan(graph, compression.importance(model, graph), config)
    small = compression.cut(model, plan, graph)
    row.seconds = round(time.process_time() - started, 2)
    before, after = compression.cost(model), compression.cost(small)
    row.parameters, row.macs = (before.parameters, after.parameters), (before.macs, after.macs)
    _count_frozen(graph, row)
    given_by_cut = keras.ops.convert_to_numpy(small(images, training=False))
    del small
    expected = keras.ops.convert_to_numpy(mask(model, plan)(images, training=False))
    row.cut_vs_mask = float(np.abs(given_by_cut - expected).max() / np.abs(expected).max())


def _count_frozen(graph: ChannelGraph, row: Row) -> None:
    frozen: Counter[str] = Counter()
    channels = 0
    for group in graph.groups:
        made = sum(len(each.positions) for each in group.slices if each.produces)
        if group.frozen in _BORDERS:
            continue
        channels += made
        if group.frozen or group.size == group.blocks:
            frozen[group.frozen or "one channel alone"] += made
    row.channels, row.frozen_share = channels, round(sum(frozen.values()) / channels, 4)
    row.frozen_by = {reason: count for reason, count in frozen.most_common() if count}


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| model | parameters, M | MACs, G | frozen | by | cut against mask | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.error or not row.parameters or not row.macs:
            lines.append(f"| {row.model} | | | | {row.error} | | |")
            continue
        (dense, small), (macs, fewer) = row.parameters, row.macs
        lines.append(
            f"| {row.model} | {dense / 1e6:.2f} -> {small / 1e6:.2f} | {macs / 1e9:.3f} -> {fewer / 1e9:.3f} | "
            f"{row.frozen_share:.1%} | {', '.join(row.frozen_by)} | {row.cut_vs_mask:.0e} | {row.seconds:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """The command line; prints the table and writes the rows."""
    from slimcam.compression.coverage import constructors

    parser = argparse.ArgumentParser(prog="python -m slimcam.compression.coverage prune", description=__doc__)
    parser.add_argument(
        "--only", help="constructors, comma-separated, in this order; all of keras.applications if absent"
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the rows are written")
    options = parser.parse_args(arguments)
    rows = [Row(**row) for row in json.loads(options.json.read_text())] if options.json.is_file() else []
    wanted = options.only.split(",") if options.only else constructors()
    for name in wanted:
        if any(row.model == name for row in rows):
            continue
        rows.append(_in_process(name))
        show(table(rows[-1:]).splitlines()[-1])
        write_text(options.json, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    show(table([row for row in rows if row.model in wanted]))


def _in_process(name: str) -> Row:
    """A model in a process of its own, so that memory comes back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(pruned, name).result()
        except BrokenProcessPool:
            return Row(name, error="the process died")
