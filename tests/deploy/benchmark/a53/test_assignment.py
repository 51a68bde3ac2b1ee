from __future__ import annotations

from slimcam.deploy.benchmark.a53.assignment import assign

GEMM, ADD, CLAMP = ["xnn_qs8_gemm_ukernel_4x16"], ["xnn_qs8_vadd_ukernel"], ["xnn_s8_vclamp_ukernel"]


def test_each_segment_goes_to_the_node_that_it_runs_for() -> None:
    assert assign([GEMM, GEMM, ADD], ["CONV_2D", "CONV_2D", "ADD"]) == [0, 1, 2]


def test_a_relu_of_its_own_belongs_to_the_sum_before_it() -> None:
    assert assign([GEMM, ADD, CLAMP, GEMM], ["CONV_2D", "ADD", "CONV_2D"]) == [0, 1, 1, 2]


def test_a_padding_that_the_convolution_does_has_no_segment() -> None:
    assert assign([GEMM, ADD], ["PAD", "CONV_2D", "ADD", "RESHAPE"]) == [1, 2]
    assert assign([["xnn_xx_pad_ukernel"], GEMM], ["PAD", "CONV_2D"]) == [0, 1]


def test_what_tflite_runs_itself_is_known_by_its_name() -> None:
    swish = ["_ZN6tflite13optimized_ops9HardSwishIaEEv"]
    assert assign([GEMM, swish, GEMM], ["CONV_2D", "HARD_SWISH", "CONV_2D"]) == [0, 1, 2]


def test_small_change_between_nodes_is_nobodys() -> None:
    assert assign([["tflite::Subgraph::InvokeImpl"], GEMM, []], ["CONV_2D"]) == [1, 0, 1]
    assert assign([GEMM], []) == [0]
