"""Stands in for TFLite's `benchmark_model`, which no package archive has: its flags, its output, real inferences.

The environment variable FORMAT picks the output of an `old`, a `middle` or a new build, and
CRASH a signal to end by.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main() -> None:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    form = os.environ.get("FORMAT", "new")
    android = "INFO: " if form == "new" else ""
    print(f"{android}Processor: [{platform.machine()}]")
    if crash := os.environ.get("CRASH"):
        os.kill(os.getpid(), int(crash))
    print(f"{android}STARTING!")
    print(f"{android}Graph: [{flags['graph']}]")
    begin = time.perf_counter()
    try:
        model = Interpreter(flags["graph"], num_threads=int(flags["num_threads"]))
    except ValueError as error:
        print(f"ERROR: {error}")
        print(f"{android}Failed to initialize the interpreter")
        sys.exit(1)
    model.allocate_tensors()
    init = (time.perf_counter() - begin) * 1e6
    (tensor,) = model.get_input_details()
    model.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
    nodes = model._get_ops_details()
    count = sum(node["op_name"] != "DELEGATE" for node in nodes)
    if form == "new":
        print("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.")
        print(
            f"VERBOSE: Replacing {count} out of {count} node(s) with delegate (TfLiteXNNPackDelegate) node, "
            "yielding 1 partitions for subgraph 0."
        )
    elif form == "middle":
        print("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    warmup = run(model, int(flags["warmup_runs"]), 0.0)
    print(f"{android}{line(warmup, form)}\n")
    regular = run(model, int(flags["num_runs"]), float(flags["min_secs"]))
    print(f"{android}{line(regular, form)}\n")
    if form == "old":
        print(
            f"Average inference timings in us: Warmup: {statistics.mean(warmup):g}, Init: {init:.0f}, "
            f"no stats: {statistics.mean(regular):g}"
        )
    else:
        print(
            f"{android}Inference timings in us: Init: {init:.0f}, First inference: {warmup[0]:.0f}, "
            f"Warmup (avg): {statistics.mean(warmup):g}, Inference (avg): {statistics.mean(regular):g}"
        )
        print(f"{android}Memory footprint delta from the start of the tool (MB): init=2.43359 overall=8.67578")
        if flags.get("report_peak_memory_footprint") == "true":
            print(f"{android}Overall peak memory footprint (MB) via periodic monitoring: 13.1797")
    if flags.get("enable_op_profiling") == "true":
        print(f"{android}Operator-wise Profiling Info for Regular Benchmark Runs:")
        print("============================== Run Order ==============================")
        print("\t [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]")
        print("\t Convolution (QC8) IGEMM\t    0.398\t    0.407\t 75.000%\t 75.000%\t     0.000\t        1\tDelegate/0")
        print("\t Mean (ND, F32)\t    0.100\t    0.050\t 25.000%\t100.000%\t     0.000\t        2\tDelegate/1")
        print("\n============================== Top by Computation Time ==============================")


def run(model: Interpreter, runs: int, seconds: float) -> list[float]:
    """Microseconds of each inference."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < max(runs, 1) or time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        model.invoke()
        times.append((time.perf_counter() - started) * 1e6)
    return times


def line(times: list[float], form: str) -> str:
    if len(times) == 1:
        return f"count=1 curr={times[0]:.0f}"
    text = (
        f"count={len(times)} first={times[0]:.0f} curr={times[-1]:.0f} min={min(times):.0f} max={max(times):.0f} "
        f"avg={statistics.mean(times):g} std={statistics.pstdev(times):.0f}"
    )
    return (
        text
        if form != "new"
        else f"{text} p5={min(times):.0f} median={statistics.median(times):.0f} p95={max(times):.0f}"
    )


if __name__ == "__main__":
    main()
