"""The evaluate stage: the `.tflite` files themselves, through the device's runtime, against the gates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression import gates
from compression.card import model_card
from compression.recipe import BENCHMARK, BUNDLE, EVALUATION, FIDELITY, VARIANTS, EvaluateConfig
from deploy.benchmark.measure import Record, first_of_each, read_records
from deploy.bundle import load_bundle, seal
from deploy.runtime import Recognizer
from training import verification
from training.data.batches import plain_batches
from training.data.faces import IMAGE_SIZE, FaceData
from training.data.load import load
from training.files import write_text
from training.job import Job
from training.progress import Progress


def run(job: Job) -> None:
    """Writes `evaluation.json` and the sealed `bundle/` of the quantised model.

    A failed gate does not stop the stage: the figures are kept, and the pipeline ends with an error once the report
    is written.
    """
    config = job.config.evaluate
    data = load(job.config.data, job.cache)
    folders = {name: job.inputs["convert"] / name for name in VARIANTS}
    scores, variants = {}, {}
    for name, folder in folders.items():
        embeddings = embed(folder, data, config.threads)
        scores[name] = verification.fold_accuracy(verification.pair_scores(embeddings, data.pairs), data.pairs)
        variants[name] = judge(embeddings, data, config) | {
            "accuracy": scores[name].mean,
            "deviation": scores[name].deviation,
        }
    changes = {
        name: verification.paired_bootstrap(scores[name].correct, scores["dense"].correct) for name in VARIANTS[1:]
    }
    records = first_of_each(read_records(job.inputs["benchmark"] / BENCHMARK))
    fidelity = json.loads((job.inputs["convert"] / FIDELITY).read_text())
    checked = gates.check(figures(changes["quantized"], records, fidelity["mean"]), config.gates)
    result = {
        "pairs": len(data.pairs),
        "images": len(data.test),
        "variants": variants,
        "changes": {name: asdict(change) for name, change in changes.items()},
        "fidelity": fidelity,
        "gates": [asdict(gate) for gate in checked],
    }
    write_text(job.out / EVALUATION, json.dumps(result, indent=2))
    _seal(folders["quantized"], job.out / BUNDLE, result)
    for name in VARIANTS:
        print(f"{name}: accuracy {100 * variants[name]['accuracy']:.2f} %", flush=True)
    for gate in checked:
        print(gate.text, flush=True)


def embed(folder: Path, data: FaceData, threads: int) -> NDArray[np.float32]:
    """Embeddings of all test images by the model of a bundle, `(N, E)`."""
    recognizer = Recognizer(folder, threads)
    progress = Progress(len(data.test), f"evaluating {folder.name}", unit="images")
    parts = []
    for batch in plain_batches(data.test.images, IMAGE_SIZE, 64):
        parts.append(recognizer.embed(batch))
        progress.advance(len(batch))
    progress.close()
    return np.concatenate(parts)


def judge(embeddings: NDArray[np.float32], data: FaceData, config: EvaluateConfig) -> dict[str, Any]:
    """True-accept rates, thresholds and ROC of a model.

    Impostors are all pairs of test images of different people, genuine pairs those of the protocol.
    """
    pairs = verification.pair_scores(embeddings, data.pairs)
    genuine = pairs[data.pairs.same]
    impostors = verification.impostor_scores(embeddings, data.test.labels)
    thresholds = {str(far): verification.threshold_at_far(impostors, far) for far in config.fars}
    rates = {str(far): verification.tar_at_far(genuine, impostors, far) for far in config.fars}
    false, true = verification.roc(genuine, impostors)
    return {
        "impostor_pairs": len(impostors),
        "thresholds": {far: value for far, value in thresholds.items() if value is not None},
        "tar": {far: value for far, value in rates.items() if value is not None},
        "roc": {"far": false.tolist(), "tar": true.tolist()},
    }


def figures(change: verification.Interval, records: dict[str, Record], fidelity: float) -> gates.Figures:
    """What the gates look at, from the benchmark's records of all variants."""
    dense, quantized = records["dense"], records["quantized"]
    memory = None if quantized.start is None else quantized.start.model_rss_bytes
    taken = quantized.execution.delegated_operators
    return gates.Figures(
        accuracy_change=change,
        size_mb=quantized.model.size_bytes / 1e6,
        latency_ratio=dense.typical_ms / quantized.typical_ms,
        memory_mb=None if memory is None else memory / 1e6,
        delegated=None if taken is None else taken / quantized.execution.operators,
        fidelity=fidelity,
    )


def _seal(folder: Path, out: Path, result: dict[str, Any]) -> None:
    bundle = load_bundle(folder)
    quantized, change = result["variants"]["quantized"], result["changes"]["quantized"]
    dense = result["variants"]["dense"]
    facts = [
        f"accuracy {100 * quantized['accuracy']:.2f} % on {result['pairs']} pairs of people not trained on "
        f"(dense float model {100 * dense['accuracy']:.2f} %; change {100 * change['difference']:+.2f} points, "
        f"95 % interval {100 * change['low']:+.2f} to {100 * change['high']:+.2f})",
        *(
            f"true accept rate {100 * rate:.2f} % at a false accept rate of {far}, over "
            f"{quantized['impostor_pairs']:,} impostor pairs"
            for far, rate in quantized["tar"].items()
        ),
    ]
    seal(
        folder,
        out,
        thresholds=quantized["thresholds"],
        gates=result["gates"],
        card=model_card(bundle.name, bundle.license, bundle.provenance, facts, result["gates"]),
        figures={
            "accuracy": quantized["accuracy"],
            "dense_accuracy": dense["accuracy"],
            "change": change,
            "tar": quantized["tar"],
            "fidelity": result["fidelity"],
        },
    )
