"""The gates that a compressed model has to pass before it is accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from slimcam.pipeline.stages.config import GatesConfig
from slimcam.training.tasks.bootstrap import Interval


@dataclass(frozen=True)
class Gate:
    """One requirement, and how the model fared.

    Attributes:
        figure: what was measured, in the unit of the bound.
        text: the outcome in one line.
    """

    name: str
    figure: float
    bound: float
    passed: bool
    text: str


@dataclass(frozen=True)
class Figures:
    """What the gates look at; units as in `GatesConfig`. What the target does not tell is `None`.

    Attributes:
        all_delegated: Whether XNNPACK has kernels for all that the file's scheme of quantization asks for.
    """

    accuracy: float
    accuracy_change: Interval
    size_mb: float
    latency_ratio: float
    memory_mb: float | None
    delegated: float | None
    fidelity: float
    all_delegated: bool = True


def check(figures: Figures, config: GatesConfig) -> tuple[Gate, ...]:
    """Compares the figures with the bounds that are given.

    Raises:
        ValueError: a bound is given for a figure that could not be measured.
    """
    if not figures.all_delegated:
        config = replace(config, delegated=None)
    change = figures.accuracy_change
    interval = (
        f"{100 * change.difference:+.2f} points, 95 % interval {100 * change.low:+.2f} to {100 * change.high:+.2f}"
    )
    if config.delegated is not None and figures.delegated is None:
        raise ValueError(
            "evaluate.gates.delegated: this target does not tell how many operators its delegate takes; set it to null"
        )
    gates = [
        _at_least("accuracy", figures.accuracy, config.accuracy, "percent"),
        _at_most("accuracy_loss", -100 * change.difference, config.accuracy_loss, "points", f" (change {interval})"),
        _at_most("size_mb", figures.size_mb, config.size_mb, "MB"),
        _at_least("latency_ratio", figures.latency_ratio, config.latency_ratio, "times"),
        _at_least("delegated", figures.delegated or 0.0, config.delegated, "of the operators"),
        _at_least("fidelity", figures.fidelity, config.fidelity, "mean cosine"),
    ]
    if config.memory_mb is not None and figures.memory_mb is None:
        raise ValueError("evaluate.gates.memory_mb: this target does not tell a process's memory; set it to null")
    gates.append(_at_most("memory_mb", figures.memory_mb or 0.0, config.memory_mb, "MB"))
    return tuple(gate for gate in gates if gate is not None)


def _at_most(name: str, figure: float, bound: float | None, unit: str, detail: str = "") -> Gate | None:
    return None if bound is None else _gate(name, figure, bound, figure <= bound, f"at most {bound:g} {unit}", detail)


def _at_least(name: str, figure: float, bound: float | None, unit: str, detail: str = "") -> Gate | None:
    return None if bound is None else _gate(name, figure, bound, figure >= bound, f"at least {bound:g} {unit}", detail)


def _gate(name: str, figure: float, bound: float, passed: bool, wanted: str, detail: str) -> Gate:
    outcome = "passed" if passed else "FAILED"
    return Gate(name, figure, bound, passed, f"{name} {outcome}: {figure:.6g}, wanted {wanted}{detail}")
