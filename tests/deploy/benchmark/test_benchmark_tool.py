"""What TFLite's benchmark_model printed on real devices, as far as it matters."""

from __future__ import annotations

import pytest

from slimcam.deploy.benchmark.benchmark_tool import parse
from slimcam.deploy.latency.record import Operator

# A build of today on an Android device, with a profile of XNNPACK's own operators.
NEW = """\
INFO: STARTING!
INFO: Graph: [/data/local/tmp/slimcam/x.tflite]
INFO: #threads used for CPU inference: [1]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 58 out of 60 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions.
INFO: The input model file size (MB): 3.58
INFO: Initialized session in 3.337ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=9 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115 p5=55502 median=56001 p95=81913

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982 p5=54900 median=56210 p95=58000

INFO: Inference timings in us: Init: 3337, First inference: 81913, Warmup (avg): 58984.7, Inference (avg): 56265.8
INFO: Memory footprint delta from the start of the tool (MB): init=2.43359 overall=8.67578
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
                   [node type]     [first]    [avg ms]        [%]     [cdf%]    [mem KB]  [times called]  [Name]
  QUANTIZE  0.199  0.203  1.328%  1.328%  0.000  1  [tfl.quantize]:0
 Convolution (NHWC, QC8) DWConv  0.428  0.051  4.317%  8.304%  0.000  13  Delegate/DWConv:1

============================== Top by Computation Time ==============================
                   [node type]     [first]    [avg ms]        [%]     [cdf%]    [mem KB]  [times called]  [Name]
  QUANTIZE  0.199  0.203  1.328%  1.328%  0.000  1  [tfl.quantize]:0

Timings (microseconds): count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982
"""

# An older one: no prefix, no median, [start] in the profile.
MIDDLE = """\
Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
Initialized session in 0.855ms.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Peak memory footprint (MB): init=0 overall=12.8672
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t [node type]\t [start]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]
\t AllocateTensors\t 0.000\t 1.356\t 1.356\t100.000%\t100.000%\t 0.000\t 1\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t [node type]\t [start]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]
\t CONV_2D\t 0.066\t 87.754\t 60.957\t 2.066%\t 2.066%\t 0.000\t 1\t[MobilenetV1/Conv2d_0/Relu6]:0
============================== Top by Computation Time ==============================
"""

# One of the oldest.
OLD = """\
Initialized session in 9.933ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=127425 curr=66709 min=66709 max=127425 avg=76605.9 std=20944

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=66753 curr=66800 min=66699 max=66838 avg=66767.6 std=39

Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6
============================== Run Order ==============================
                     [node type]   [start]   [first]  [avg ms]       [%]     [cdf%]  [mem KB] [times called]  [Name]
  DELEGATE  0.000  21.227  21.287  91.329%  91.329%  0.000  1  [lstm/BiasAdd]
"""


def test_a_new_build() -> None:
    found = parse(NEW, 60)
    assert (found.samples, found.min_ms, found.max_ms) == (1061, 54.669, 60.236)
    assert found.mean_ms == pytest.approx(56.2658)
    assert (found.median_ms, found.deviation_ms) == (56.210, 0.982)
    assert (found.init_ms, found.first_ms) == (3.337, 81.913)
    assert (found.model_rss_mb, found.peak_rss_mb) == (8.67578, 93.2383)
    assert (found.delegate, found.delegated) == ("XNNPACK", 58)
    assert found.profile == [
        Operator("[tfl.quantize]:0", "QUANTIZE", 0.203, 1),
        Operator("Delegate/DWConv:1", "Convolution (NHWC, QC8) DWConv", 0.663, 13),
    ]


def test_a_build_without_percentiles() -> None:
    found = parse(MIDDLE, 64)
    assert (found.samples, found.mean_ms, found.median_ms) == (50, 33.2094, None)
    assert (found.init_ms, found.first_ms) == (0.855, 49.060)
    assert (found.model_rss_mb, found.peak_rss_mb) == (12.8672, None)
    assert (found.delegate, found.delegated) == ("XNNPACK", 64)
    assert found.profile == [Operator("[MobilenetV1/Conv2d_0/Relu6]:0", "CONV_2D", 60.957, 1)]


def test_an_old_build() -> None:
    found = parse(OLD, 31)
    assert (found.samples, found.mean_ms, found.init_ms, found.first_ms) == (15, 66.7676, 9.933, 127.425)
    assert (found.delegate, found.delegated, found.model_rss_mb) == ("none", 0, None)
    assert found.profile == [Operator("[lstm/BiasAdd]", "DELEGATE", 21.287, 1)]


def test_one_sample_and_no_profile() -> None:
    text = (
        "count=1 curr=64\n\nInference timings in us: Init: 5, First inference: 7, Warmup (avg): 7, Inference (avg): 64"
    )
    found = parse(text, 3)
    assert (found.samples, found.mean_ms, found.min_ms, found.max_ms, found.deviation_ms) == (1, 0.064, 0.064, 0.064, 0)
    assert found.profile is None


def test_a_partly_delegated_graph_whose_share_is_not_told() -> None:
    text = (
        OLD + "Explicitly applied NNAPI delegate, and the model graph will be partially executed by the delegate w/ 44"
    )
    assert (parse(text, 31).delegate, parse(text, 31).delegated) == ("NNAPI", None)


@pytest.mark.parametrize("text", ["", "hello", "count=3 first=1", "Inference timings in us: Init: 5"])
def test_other_output_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="inference timings"):
        parse(text, 1)
