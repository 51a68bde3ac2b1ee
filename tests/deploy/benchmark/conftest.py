"""Block profiles of the models of the published points, from `python -m slimcam.pipeline.tools.validate_a53
--profiles`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slimcam.deploy.benchmark.a53.fit import costs_of
from slimcam.deploy.benchmark.a53.latency import OperatorCost
from slimcam.deploy.benchmark.a53.profile import Profile, load_profile

PROFILES = Path(__file__).parent / "a53" / "profiles"


@pytest.fixture(scope="session")
def profiles() -> dict[str, Profile]:
    return {path.name.removesuffix(".json.gz"): load_profile(path) for path in sorted(PROFILES.glob("*.json.gz"))}


@pytest.fixture(scope="session")
def costs(profiles: dict[str, Profile]) -> dict[str, list[OperatorCost]]:
    return {name: costs_of(profile) for name, profile in profiles.items()}
