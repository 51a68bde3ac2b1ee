"""Which node of the graph each part of an inference belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What the functions that XNNPACK, or TFLite, runs for a node are called. A kind that is not here is known by its own
# name (HARD_SWISH: "hardswish").
_FUNCTIONS = {
    "CONV_2D": r"i?gemm|conv_hwc|spmm|dwconv",
    "DEPTHWISE_CONV_2D": r"dwconv|igemm",
    "FULLY_CONNECTED": r"gemm|gemv",
    "ADD": r"vadd",
    "SUB": r"vr?sub",
    "MUL": r"vmul",
    "DIV": r"vr?div",
    "MEAN": r"rd?sum|gavgpool|mean",
    "SUM": r"rd?sum",
    "PAD": r"pad",
    "MAX_POOL_2D": r"maxpool",
    "AVERAGE_POOL_2D": r"avgpool|averagepool",
    "RELU": r"vclamp|vmax|relu",
    "RELU6": r"vclamp|relu",
    "HARD_SWISH": r"hswish|hardswish",
    "LOGISTIC": r"sigmoid|lut|logistic",
    "TANH": r"tanh|lut",
    "SOFTMAX": r"softmax|raddstore|rmax|lut32norm",
    "QUANTIZE": r"vcvt|quantize|convert",
    "DEQUANTIZE": r"vcvt|dequantize|convert",
    "CONCATENATION": r"copy|concat|memcpy",
}
# Functions that do part of a node's work after its main one.
_FOLLOWS = re.compile(r"vclamp|copy|memcpy|memset|cvt|convert|transpose|unary")
# Nodes that the delegate often drops, because their neighbors do the work or there is none.
_DISPENSABLE = {"RESHAPE", "PAD", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE"}
_WRONG, _FOLLOWING, _DROPPED, _DISPENSED = 4.0, 0.5, 3.0, 0.1
_NEVER = float("inf")


def assign(segments: Sequence[Sequence[str]], kinds: Sequence[str]) -> list[int]:
    """Finds the node that each segment belongs to; both are in the order of execution.

    The delegate drops nodes (a padding that its convolution does itself) and runs several functions for one (a sum and
    then its ReLU), so the assignment is the cheapest one that never goes back, found by dynamic programming.

    Args:
        segments: Functions that each segment ran.
        kinds: Kinds of the nodes.

    Returns:
        The node's place for each segment; `len(kinds)` where no kernel and nothing of a node's name ran.
    """
    texts = [" ".join(symbols).lower() for symbols in segments]
    names = [kind.replace("_", "").lower() for kind in kinds]
    marks = ("xnn_compute", "ukernel", *set(names))
    real = [place for place, text in enumerate(texts) if any(mark in text for mark in marks)]
    owners = [len(kinds)] * len(segments)
    if not kinds or not real:
        return owners
    patterns = [re.compile(_FUNCTIONS.get(kind, re.escape(name))) for kind, name in zip(kinds, names, strict=True)]
    drop = [_DISPENSED if kind in _DISPENSABLE else _DROPPED for kind in kinds]
    # best[j]: the cost of the segments so far where the last of them went to node j; came[j]: the one before it.
    best: list[float] = []
    choices: list[list[int]] = []
    for place in real:
        text, now, came = texts[place], [], []
        reach, reached = (_NEVER, -1) if best else (0.0, -1)
        for j, pattern in enumerate(patterns):
            fits = pattern.search(text) is not None
            stay = best[j] if best else _NEVER
            again = stay + (_FOLLOWING if fits or _FOLLOWS.search(text) else _WRONG)
            first = reach + (0.0 if fits else _WRONG)
            now.append(min(again, first))
            came.append(j if again <= first else reached)
            reach += drop[j]
            if stay < reach:
                reach, reached = stay, j
        best = now
        choices.append(came)
    j = min(range(len(kinds)), key=lambda last: best[last] + sum(drop[last + 1 :]))
    for place, came in zip(reversed(real), reversed(choices), strict=True):
        owners[place] = j
        j = came[j]
    return owners
