"""The result files of the stages, by name; here, so that whoever reads them needs no framework."""

from __future__ import annotations

import json
from pathlib import Path

from slimcam.deploy.common.files import write_text
from slimcam.training.fit.checkpoint import History

VARIANTS = ("dense", "pruned", "quantized")
"""The models that are converted, measured and evaluated; the last is the one that a device gets."""

# By the stage that writes them; a stage that trains writes a history.
HISTORY = "history.jsonl"
CHECK = "check.json"  # check
DATA = "data.json"  # train
PLAN, PLAN_PLOT, COST = "plan.json", "plan.png", "cost.json"  # prune
# quantize: a model of a scheme that is trained, or a file; what the scheme is, and how much each layer loses
QUANTIZED, QUANTIZED_FILE, ORIGINS, SCHEME, LAYERS = (
    "model.h5",
    "model.tflite",
    "origins.json",
    "scheme.json",
    "layers.json",
)
ZEROS = "zeros.json"  # prune, by magnitude: the zeros in each kernel, and its weights
FIDELITY = "fidelity.json"  # convert
SENSITIVITY, SENSITIVITY_PLOT, RATIOS = "sensitivity.json", "sensitivity.png", "ratios.yaml"  # sensitivity
TFLITE, COMPRESSED, SUMMARY = "model.tflite", "compressed.json", "summary.txt"  # compress
BENCHMARK = "benchmark.json"  # benchmark
EVALUATION, BUNDLE = "evaluation.json", "bundle"  # evaluate


def write_history(folder: Path, history: History) -> None:
    """Writes `history.jsonl`, one entry a line."""
    write_text(folder / HISTORY, "".join(json.dumps(entry) + "\n" for entry in history))
