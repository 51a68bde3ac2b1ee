from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.profile import (
    Profile,
    ProfiledOperator,
    Tensor,
    compact,
    load_profile,
    save_profile,
)


def test_a_profile_is_read_back_as_it_was_and_the_same_one_gives_the_same_bytes(
    tmp_path: Path, profiles: dict[str, Profile]
) -> None:
    profile = profiles["mobilenet_v3_small_int8"]
    save_profile(profile, tmp_path / "a.json.gz")
    save_profile(load_profile(tmp_path / "a.json.gz"), tmp_path / "b.json.gz")
    assert load_profile(tmp_path / "a.json.gz") == profile
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_simulated_branches_and_fetching_are_kept_too(tmp_path: Path, profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v3_small_int8"]
    first = profile.operators[0]
    uses = tuple(
        replace(use, mispredicted=place % 2, fetch_l1_misses=place % 3) for place, use in enumerate(first.uses)
    )
    changed = replace(profile, operators=(replace(first, uses=uses), *profile.operators[1:]))
    save_profile(changed, tmp_path / "a.json.gz")
    assert load_profile(tmp_path / "a.json.gz") == changed != profile


@pytest.mark.parametrize("cut", [0, 10, 5000])
def test_a_damaged_profile_is_refused(tmp_path: Path, profiles: dict[str, Profile], cut: int) -> None:
    save_profile(profiles["mobilenet_v3_small_int8"], tmp_path / "a.json.gz")
    (tmp_path / "a.json.gz").write_bytes((tmp_path / "a.json.gz").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"a\.json\.gz: not a block profile, or damaged"):
        load_profile(tmp_path / "a.json.gz")


def test_a_compact_profile_keeps_what_weighs(profiles: dict[str, Profile]) -> None:
    profile = profiles["mobilenet_v2_int8"]
    small = compact(profile, 0.99)
    assert len(small.blocks) < len(profile.blocks)
    assert 0.99 * profile.instructions() <= small.instructions() < profile.instructions()
    assert next(iter(small.by_symbol())) == next(iter(profile.by_symbol()))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net/r_1/Relu;net/c_bn_1/batchnorm/add_1;net/c_1/convolution;net/c_bn_1/batchnorm/sub1", "c_1"),
        ("net/add_1/Add", "add_1"),
        ("net/norm/batchnorm/mul_1;net/norm/batchnorm/add_1", "norm"),
        ("StatefulPartitionedCall_1:0", "StatefulPartitionedCall_1:0"),
    ],
)
def test_an_operator_is_named_for_its_layer_whatever_is_folded_into_it(name: str, layer: str) -> None:
    """The names of a trained normalization, with an offset, come last."""
    output = Tensor(name, (1, 8), "int8")
    assert ProfiledOperator("CONV_2D", (), output, ()).layer == layer
