"""The evaluate stage: the `.tflite` files themselves, through the device's runtime, against the gates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from training.data.faces import IMAGE_SIZE, Images, Verification
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
    test = judge(folders, Verification(data.test, data.pairs), config)
    held_out = None if data.held_out is None else judge(folders, data.held_out, config)
    records = first_of_each(read_records(job.inputs["benchmark"] / BENCHMARK))
    fidelity = json.loads((job.inputs["convert"] / FIDELITY).read_text())
    change = verification.Interval(**test["changes"]["quantized"])
    checked = gates.check(figures(change, records, fidelity["mean"]), config.gates)
    result = {**test, "held_out": held_out, "fidelity": fidelity, "gates": [asdict(gate) for gate in checked]}
    write_text(job.out / EVALUATION, json.dumps(result, indent=2))
    _seal(folders["quantized"], job.out / BUNDLE, result)
    for name in VARIANTS:
        second = "" if held_out is None else f"; people held out {100 * held_out['variants'][name]['accuracy']:.2f} %"
        print(f"{name}: accuracy {100 * test['variants'][name]['accuracy']:.2f} %{second}", flush=True)
    for gate in checked:
        print(gate.text, flush=True)


def judge(folders: Mapping[str, Path], faces: Verification, config: EvaluateConfig) -> dict[str, Any]:
    """Judges the models of some bundles by the same faces.

    Args:
        folders: bundle by variant, `dense` among them.

    Returns:
        How many `pairs`, `images` and `people` there are; accuracy, its deviation over folds, true-accept rates,
        thresholds and ROC of the `variants`; and the `changes` of the others' accuracy against the dense model's.
    """
    accuracies, variants = {}, {}
    for name, folder in folders.items():
        embeddings = embed(folder, faces.faces.images, config.threads)
        accuracies[name] = verification.fold_accuracy(verification.pair_scores(embeddings, faces.pairs), faces.pairs)
        variants[name] = rates(embeddings, faces, config.fars) | {
            "accuracy": accuracies[name].mean,
            "deviation": accuracies[name].deviation,
        }
    dense = accuracies["dense"].correct
    return {
        "pairs": len(faces.pairs),
        "images": len(faces.faces),
        "people": len(np.unique(faces.faces.labels)),
        "variants": variants,
        "changes": {
            name: asdict(verification.paired_bootstrap(accuracy.correct, dense))
            for name, accuracy in accuracies.items()
            if name != "dense"
        },
    }


def embed(folder: Path, images: Images, threads: int) -> NDArray[np.float32]:
    """Embeddings of all images by the model of a bundle, `(N, E)`."""
    recognizer = Recognizer(folder, threads)
    progress = Progress(len(images), f"evaluating {folder.name}", unit="images")
    parts = []
    for batch in plain_batches(images, IMAGE_SIZE, 64):
        parts.append(recognizer.embed(batch))
        progress.advance(len(batch))
    progress.close()
    return np.concatenate(parts)


def rates(embeddings: NDArray[np.float32], faces: Verification, fars: Sequence[float]) -> dict[str, Any]:
    """True-accept rates, thresholds and ROC of a model at false-accept rates.

    Impostors are all pairs of images of different people, genuine pairs those of the protocol.
    """
    pairs = verification.pair_scores(embeddings, faces.pairs)
    genuine = pairs[faces.pairs.same]
    impostors = verification.impostor_scores(embeddings, faces.faces.labels)
    thresholds = {str(far): verification.threshold_at_far(impostors, far) for far in fars}
    accepted = {str(far): verification.tar_at_far(genuine, impostors, far) for far in fars}
    false, true = verification.roc(genuine, impostors)
    return {
        "impostor_pairs": len(impostors),
        "thresholds": {far: value for far, value in thresholds.items() if value is not None},
        "tar": {far: value for far, value in accepted.items() if value is not None},
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
    quantized, dense = result["variants"]["quantized"], result["variants"]["dense"]
    facts = [
        _accuracy(result, f"{result['pairs']} pairs of people not trained on"),
        *(
            f"true accept rate {100 * rate:.2f} % at a false accept rate of {far}, over "
            f"{quantized['impostor_pairs']:,} impostor pairs"
            for far, rate in quantized["tar"].items()
        ),
    ]
    if second := result["held_out"]:
        faces = f"{second['pairs']} pairs of {second['people']} people held out of the folders trained on"
        chosen = ", by whom weights were chosen in training" if bundle.provenance["validated_stages"] else ""
        facts.append(_accuracy(second, faces + chosen))
    seal(
        folder,
        out,
        thresholds=quantized["thresholds"],
        gates=result["gates"],
        card=model_card(bundle.name, bundle.license, bundle.provenance, facts, result["gates"]),
        figures={
            "accuracy": quantized["accuracy"],
            "dense_accuracy": dense["accuracy"],
            "change": result["changes"]["quantized"],
            "tar": quantized["tar"],
            "fidelity": result["fidelity"],
        },
    )


def _accuracy(judged: dict[str, Any], faces: str) -> str:
    quantized, dense = (judged["variants"][name]["accuracy"] for name in ("quantized", "dense"))
    change = judged["changes"]["quantized"]
    return (
        f"accuracy {100 * quantized:.2f} % on {faces} (dense float model {100 * dense:.2f} %; "
        f"change {100 * change['difference']:+.2f} points, "
        f"95 % interval {100 * change['low']:+.2f} to {100 * change['high']:+.2f})"
    )
