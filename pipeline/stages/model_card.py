"""The model card of a bundle, for people (Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slimcam.training.tasks.task import Task


def model_card(
    name: str,
    task: Task,
    license: str,
    provenance: Mapping[str, Any],
    figures: Sequence[str] = (),
    gates: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Writes a card in Markdown.

    Args:
        provenance: see `slimcam.pipeline.stages.convert.provenance`.
        figures: measured facts, one sentence each.
        gates: see `slimcam.pipeline.stages.gates.Gate`.
    """
    epochs = ", ".join(f"{stage} {count:g}" for stage, count in provenance["epochs"].items())
    lines = [
        f"# {name}",
        "",
        f"{task.purpose} Made by slimcam.",
        "",
        f"**License:** {license}",
        "",
        "## Made of",
        f"- backbone {provenance['backbone']}, initial weights {provenance['initial_weights']}",
        f"- trained on {provenance['data']}",
        *(f"- {line}" for line in provenance.get("credits", ())),
        f"- {_teacher(provenance)}",
        f"- {_pruned(provenance)}",
        f"- quantization: {scheme_line(provenance['quantization'])}",
        f"- epochs: {epochs}",
        "",
        "## Measured",
        *([f"- {figure}" for figure in figures] or ["Not yet."]),
        "",
        "## Gates",
        *([f"- {gate['text']}" for gate in gates] or ["Not yet."]),
        "",
        "## Limits",
        *(f"- {limit}" for limit in task.limits),
        "",
    ]
    return "\n".join(lines)


def scheme_line(quantization: Mapping[str, Any]) -> str:
    """The scheme of a quantized file in a line: its name, its numbers, the layers that are an exception to it.

    Args:
        quantization: `scheme.json` of the quantize stage.
    """
    line = f"{quantization['scheme']} ({quantization['numbers']})"
    kinds = dict.fromkeys(quantization["layers"].values())
    exceptions = [
        f"{kind}: {', '.join(name for name, policy in quantization['layers'].items() if policy == kind)}"
        for kind in kinds
    ]
    return "; ".join([line, *exceptions])


def _teacher(provenance: Mapping[str, Any]) -> str:
    if provenance["teacher"]:
        return f"teacher: {provenance['teacher']}, in {', '.join(provenance['taught_stages'])}"
    # Of a converted network only the dense model's shape is taken.
    imitated = provenance["pruned_weights"] in ("kept", "random") or provenance["taught_stages"]
    return "no teacher but the dense model itself" if imitated else "no teacher"


def _pruned(provenance: Mapping[str, Any]) -> str:
    if "zero_weights" in provenance:
        return f"{provenance['zero_weights']:.1%} of the weights of kernels are zero; no channel is pruned"
    return (
        f"{provenance['pruned_share']:.1%} of {provenance['pruned_channels']:,} channels pruned "
        f"(scope {provenance['pruned_scope']}{_way(provenance)})"
    )


def _way(provenance: Mapping[str, Any]) -> str:
    if provenance["pruned_weights"] == "random":
        return "; only the shape was taken over, all weights re-initialized"
    if provenance["pruned_weights"] != "kept":
        beginning = provenance["pruned_weights"]
        return f"; fine-tuning went on from the weights of {beginning}; of the dense model only the shape counts"
    steps = provenance["pruned_steps"]
    return f", in {steps} steps" if steps > 1 else ""
