"""What TFLite's `benchmark_model` prints, old and new builds alike.

https://github.com/tensorflow/tensorflow/tree/master/tensorflow/lite/tools/benchmark: builds of today end with
`Inference timings in us: Init: ..., First inference: ..., Warmup (avg): ..., Inference (avg): ...`, the oldest with
`Average inference timings in us: Warmup: ..., Init: ..., no stats: ...` (or `Inference: ...`). Android builds put
`INFO: ` before lines. A profile has a [start] column in older builds; what they put between columns differs as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slimcam.deploy.latency.record import Operator

_PREFIX = re.compile(r"^(?:INFO|VERBOSE|WARNING|WARN|ERROR): ")
_SUMMARY = re.compile(r"^(?:Average inference|Inference) timings in us: (.*)$")
# node type, [start] in old builds, first, ms, %, cumulative %, kB, times called, name
_PROFILE_ROW = re.compile(
    r"^\s*(?P<kind>\S.*?)(?:\s+[\d.e+-]+)+?\s+(?P<ms>[\d.e+-]+)\s+[\d.]+%\s+[\d.]+%"
    r"\s+[\d.e+-]+\s+(?P<calls>\d+)\s+(?P<name>.*)$"
)
_REPLACED = re.compile(r"Replacing (\d+) (?:out of (\d+) )?node\(s\) with delegate \((\w+)\)")


@dataclass(frozen=True)
class ToolOutput:
    """Figures of one run of the tool.

    Attributes:
        samples: Number of inferences that count.
        mean_ms: Mean milliseconds of an inference.
        min_ms: Milliseconds of the fastest inference.
        max_ms: Milliseconds of the slowest inference.
        deviation_ms: Standard deviation of the milliseconds.
        median_ms: Median milliseconds; null in builds that do not tell them.
        init_ms: Milliseconds until the interpreter was ready.
        first_ms: Milliseconds of the first inference.
        model_rss_mb: Memory that the run added; null where the tool does not tell.
        peak_rss_mb: Peak memory of the process; null where the tool was not asked or does not tell.
        delegate: "XNNPACK", another delegate's own name, or "none".
        delegated: Number of nodes that the delegate took; null where the tool does not tell.
        profile: Time of each operator; null where the tool was not asked.
    """

    samples: int
    mean_ms: float
    min_ms: float
    max_ms: float
    deviation_ms: float
    median_ms: float | None
    init_ms: float
    first_ms: float
    model_rss_mb: float | None
    peak_rss_mb: float | None
    delegate: str
    delegated: int | None
    profile: list[Operator] | None


def parse(text: str, operators: int) -> ToolOutput:
    """Reads what the tool printed.

    Args:
        text: stdout and stderr together.
        operators: Number of operators of the model's graph.

    Raises:
        ValueError: the figures are not in it.
    """
    lines = [_PREFIX.sub("", line.strip()) for line in text.splitlines()]
    end, summary = next(((i, found[1]) for i, line in enumerate(lines) if (found := _SUMMARY.match(line))), (0, ""))
    counts = [_pairs(line, "=") for line in lines[:end] if line.startswith("count=")]
    if not counts:
        raise ValueError("there are no inference timings in it")
    timings, regular = _pairs(summary, ": "), counts[-1]
    delegate, delegated = _delegation(lines, operators)
    try:
        return ToolOutput(
            samples=int(regular["count"]),
            # With one sample the tool prints `count=1 curr=...` alone.
            mean_ms=regular.get("avg", regular["curr"]) / 1e3,
            min_ms=regular.get("min", regular["curr"]) / 1e3,
            max_ms=regular.get("max", regular["curr"]) / 1e3,
            deviation_ms=regular.get("std", 0.0) / 1e3,
            median_ms=regular["median"] / 1e3 if "median" in regular else None,
            init_ms=timings["Init"] / 1e3,
            first_ms=timings.get("First inference", counts[0].get("first", counts[0]["curr"])) / 1e3,
            model_rss_mb=_memory(
                lines, r"(?:Memory footprint delta.*|Peak memory footprint \(MB\)):.* overall=([\d.]+)"
            ),
            peak_rss_mb=_memory(lines, r"Overall peak memory footprint \(MB\).*: ([\d.]+)"),
            delegate=delegate,
            delegated=delegated,
            profile=_profile(lines),
        )
    except KeyError as error:
        raise ValueError(f"there is no {error} in its timings") from error


def _pairs(line: str, separator: str) -> dict[str, float]:
    """`count=50 first=3` or `Init: 5, First inference: 7` as numbers by name."""
    name = r"[A-Za-z][\w ()]*?"
    found = re.findall(rf"({name}){re.escape(separator)}([\d.]+(?:e[-+]?\d+)?)", line)
    return {key.strip(): float(value) for key, value in found}


def _memory(lines: list[str], pattern: str) -> float | None:
    found = [match for line in lines if (match := re.match(pattern, line))]
    return float(found[-1][1]) if found else None


def _delegation(lines: list[str], operators: int) -> tuple[str, int | None]:
    """The delegate, and how many of the graph's operators it took."""
    text = "\n".join(lines)
    if replaced := _REPLACED.findall(text):
        # A delegate may be applied to several subgraphs, a line each.
        return _short(replaced[0][2]), sum(int(taken) for taken, _, _ in replaced)
    if applied := re.search(r"Explicitly applied (\w+) delegate, and the model graph will be (\w+)", text):
        return applied[1], operators if applied[2] == "completely" else None
    if "XNNPACK delegate for CPU" in text:
        return "XNNPACK", None
    return "none", 0


def _short(delegate: str) -> str:
    return "XNNPACK" if "xnnpack" in delegate.lower() else delegate


def _profile(lines: list[str]) -> list[Operator] | None:
    """The rows of the run-order table of the regular runs."""
    begin = [i for i, line in enumerate(lines) if line.startswith("Operator-wise Profiling Info for Regular")]
    # The oldest builds have one profile and no title for it.
    begin = begin or [i for i, line in enumerate(lines) if "= Run Order =" in line][-1:]
    if not begin:
        return None
    operators = []
    for line in lines[begin[-1] :]:
        if "Top by Computation Time" in line or "Summary by node type" in line:
            break
        if row := _PROFILE_ROW.match(line):
            calls = int(row["calls"])
            operators.append(Operator(row["name"], row["kind"], round(float(row["ms"]) * calls, 6), calls))
    return operators
