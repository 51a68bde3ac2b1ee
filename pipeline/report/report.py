"""The report stage: what a run found, in Markdown and as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from slimcam.compression.quantization.schemes import Scheme
from slimcam.deploy.common.files import atomic, write_text
from slimcam.deploy.latency.table import threads
from slimcam.pipeline.report import plots, wording
from slimcam.pipeline.report.findings import Findings, gather
from slimcam.pipeline.report.plots import DARK, LIGHT, Theme
from slimcam.pipeline.report.table import PUBLISHED_MACHINE, TABLE, change, save
from slimcam.pipeline.stages.model_card import scheme_line
from slimcam.training.fit.progress import duration
from slimcam.training.tasks.job import Job

logger = logging.getLogger(__name__)

AGAIN = "experiment/again.yaml"

_ZEROS_NOTE = (
    "zeros make a compressed file smaller. They are multiplied as other weights are, but by XNNPACK's sparse kernels, "
    "which are for 1x1 convolutions in float32 on ARM and on x86 without AVX (docs/pruning.md)."
)


@dataclass(frozen=True)
class Plot:
    """A plot of the report: `draw` makes it in the colors of a theme; `alt` tells what it shows to who cannot see."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]


_BEGINNINGS = {"kept": ".", "random": "; their weights were re-initialized, as a control."}
"""What the report says of `prune.weights`, if it is not a converted network."""


def run(job: Job) -> None:
    """Writes `report.md` with `plots/*.png`, `report.html`, `results.json`, and `experiment/again.yaml`.

    The last is the run's configuration as an experiment: `slimcam --config-dir FOLDER experiment=again` makes the run
    again.
    """
    findings = gather(job)
    shown = _plots(findings)
    for plot in shown:
        with atomic(job.out / f"plots/{plot.name}.png") as partial_file:
            partial_file.write_bytes(plots.png(plot.draw(LIGHT)))
    again = experiment(findings)
    write_text(job.out / AGAIN, again)
    save(findings.table, job.out / TABLE)
    facts = _facts(findings, shown, again)
    for name in ("report.md", "report.html"):
        write_text(job.out / name, _templates().get_template(name).render(facts))
    logger.info(f"report: {findings.table.verdict}")


def experiment(findings: Findings) -> str:
    """The configuration of a run as an experiment file, which Hydra checks against the schemas when it is used."""
    config = {
        "defaults": [{"override /data": findings.data.kind}],
        "backend": findings.receipts["train"]["backend"],
        **findings.config,
    }
    return "# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.create(config))


def _plots(findings: Findings) -> tuple[Plot, ...]:
    table, curves = findings.table, findings.evaluation["curves"]
    kept, sizes, prune = findings.plan["kept"], findings.plan["sizes"], findings.config["prune"]
    whole = _by_reason(findings.plan.get("whole", {}))
    others = sum(whole.values())
    left, total = sum(map(len, kept.values())) + others, sum(sizes[name] for name in kept) + others
    best = "; ".join(
        f"{row.name} {wording.percent(row.accuracy)}, {wording.milliseconds(row.p50_ms)} ms, {row.size_mb:.2f} MB"
        for row in table.rows
    )
    return (
        Plot(
            "errors",
            curves["title"],
            curves["caption"],
            curves["alt"],
            partial(plots.errors, curves),
        ),
        Plot(
            "tradeoff",
            f"{table.measure}, latency and size",
            "Up and to the left is better; the area of a disc is the size of the file. Vertical bars are 95 % "
            "intervals of the change against the dense model.",
            f"{table.measure} against latency: {best}",
            partial(plots.tradeoff, table.rows, table.measure.lower()),
        ),
        Plot(
            "curves",
            "Training",
            "The losses are of different kinds: each tells of its own training only."
            + (f" Fine-tuning goes through {prune['steps']} cuts." if prune["steps"] > 1 else ""),
            f"Loss over epochs of {', '.join(fit.title for fit in findings.fits)}",
            partial(plots.curves, findings.fits),
        ),
        Plot(
            "channels",
            "Channels kept",
            "A row is a group of channels that go together, named after its first layer, from the model's input down "
            f"to its output. In all, {left:,} of {total:,} channels stay"
            + _BEGINNINGS.get(prune["weights"], f"; fine-tuning went on from the weights of {prune['weights']}.")
            + "".join(f" {count:,} stay whole: {reason}." for reason, count in whole.items()),
            f"Share of channels kept by each of {len(kept)} groups; {left:,} of {total:,} in all",
            partial(plots.channels, kept, sizes),
        ),
    )


def _by_reason(whole: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Number of channels that stay whole, by the reason, as a plan has them."""
    found: dict[str, int] = {}
    for group in whole.values():
        found[group["reason"]] = found.get(group["reason"], 0) + group["channels"]
    return found


def _facts(findings: Findings, shown: tuple[Plot, ...], again: str) -> dict[str, Any]:
    table = findings.table
    receipt = findings.receipts["evaluate"]
    commits = {stage: found["commit"] for stage, found in findings.receipts.items()}
    return {
        "findings": findings,
        "table": table,
        "small": table.rows[-1],
        "scheme": scheme_line(findings.evaluation["quantization"]),
        "all_delegated": Scheme(findings.evaluation["quantization"]["scheme"]).facts.delegated,
        "published_machine": PUBLISHED_MACHINE,
        "first": next(iter(findings.records.values())),
        "listings": findings.evaluation["tables"],
        "cell": _cell,
        "plots": shown,
        "again": again,
        "libraries": receipt["libraries"],
        "commits": sorted({commit for commit in commits.values() if commit}),
        "zeros_note": _ZEROS_NOTE,
        "x86": "x86_64" in next(iter(findings.records.values())).machine.os,
        "total_seconds": sum(effort.seconds for effort in findings.efforts),
        "training_seconds": sum(effort.training_seconds or 0 for effort in findings.efforts),
    }


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slimcam.pipeline.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "change": change,
        "count": wording.count,
        "duration": duration,
        "megabytes": wording.megabytes,
        "milliseconds": wording.milliseconds,
        "percent": wording.percent,
        "points": wording.points,
        "times": wording.times,
        "threads": threads,
        "outcome": lambda gate: gate["text"].partition(": ")[2],
        "sentence": lambda text: text[0].upper() + text[1:] + ".",
        "plain": _plain,
        "picture": _picture,
    }
    return environment


def _cell(value: Any, kind: str) -> str:
    """A cell of a `slimcam.training.tasks.task.Listing`."""
    if value is None:
        return wording.UNKNOWN
    if kind == "interval":
        return wording.interval(**value)
    if kind == "estimate":
        return f"{wording.percent(value['share'])} ({100 * value['low']:.2f} to {100 * value['high']:.2f})"
    show: dict[str, Callable[[float], str]] = {
        "percent": wording.percent,
        "milliseconds": wording.milliseconds,
        "number": lambda number: f"{number:,}",
    }
    return show[kind](value)


def _plain(text: object) -> str:
    """Text from outside for a line or a table cell of Markdown, where it is to mean nothing but itself."""
    escaped = " ".join(str(text).split())
    for character in "\\`*[]<>|":
        escaped = escaped.replace(character, "\\" + character)
    return escaped


def _picture(plot: Plot) -> Markup:
    """The plot as an element that follows the reader's light or dark page."""
    light, dark = (f"data:image/svg+xml;base64,{_base64(plots.svg(plot.draw(theme)))}" for theme in (LIGHT, DARK))
    return Markup(
        '<picture><source media="(prefers-color-scheme: dark)" srcset="{}"><img src="{}" alt="{}"></picture>'
    ).format(dark, light, plot.alt)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
