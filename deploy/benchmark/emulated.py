"""Latency that is predicted: slimcam's device code on an emulated Cortex-A53, its instructions timed by a model."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimcam.deploy.benchmark.a53.cost_table import CostTable, make_cost_table, write_cost_table
from slimcam.deploy.benchmark.a53.device import L2_BYTES, Device
from slimcam.deploy.benchmark.a53.emulator import parity_check, profile_model
from slimcam.deploy.benchmark.a53.latency import (
    MODEL,
    Constants,
    operator_cost,
    predict_ms,
    predict_threads_ms,
    read_constants,
    roof_ms,
    weights_bytes,
)
from slimcam.deploy.benchmark.a53.profile import Profile
from slimcam.deploy.benchmark.a53.sysroot import Sysroot, make_sysroot
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.common.result_key import in_key
from slimcam.deploy.latency.provenance import identify, now_utc, own_version
from slimcam.deploy.latency.record import (
    Cluster,
    Condition,
    Estimate,
    Execution,
    Machine,
    PredictedOperator,
    Prediction,
    Record,
    ThreadsEstimate,
)
from slimcam.deploy.latency.request import model_files, thread_counts

logger = logging.getLogger(__name__)

NOWHERE = Condition(governor=None, frequency_mhz=None, temperature_c=None, load=None)


RENAMED_OPTIONS = {"prove": "parity_check"}
"""Former names of options of `EmulatedConfig`, which work for one version more."""


@dataclass
class EmulatedConfig:
    """A chip with Cortex-A53 cores and what to predict for it.

    Attributes:
        device: Name of the chip or board.
        clock_mhz: Clock of the cores.
        cores: Number of cores.
        memory_gbs: Peak bandwidth of the memory, GB/s.
        threads: Number of threads, or a list of numbers; those beyond 1 are predicted as intervals.
        parity_check: Whether to check first that the emulated ARM computes what this machine does, int8 bit for bit.
        fresh: Whether to profile the model again, although its profile is in the cache.
        operators: Whether to predict each operator too.
        cost_table: JSON file for the predicted microseconds of each layer at other channel counts; none where null. Of
            several models it is of the first, and the others, pruned from it, are compared with its estimates.
        cache: Folder for the emulated device and profiles; null is `$SLIMCAM_CACHE` or `~/.cache/slimcam`.
    """

    device: str = "Snapdragon 625"
    clock_mhz: float = 2000.0
    cores: int = 8
    memory_gbs: float = 7.464
    threads: Any = (1, 2, 4, 8)
    parity_check: bool = field(default=True, metadata=in_key(name="prove"))
    fresh: bool = False
    operators: bool = False
    cost_table: str | None = None
    cache: str | None = None

    def __post_init__(self) -> None:
        counts = thread_counts(self.threads)
        if min(counts) < 1 or max(counts) > self.cores:
            raise ValueError(f"{self.device} has {self.cores} cores; ask for 1 to {self.cores} threads, not {counts}")
        self.chip()

    def chip(self) -> Device:
        """The device that is predicted."""
        return Device(self.device, self.clock_mhz, self.cores, self.memory_gbs)


def predict_models(models: Mapping[str, Path], config: EmulatedConfig) -> list[Record]:
    """Predicts models on an emulated Cortex-A53; progress goes to stderr.

    The first call makes the emulated device, in some minutes.

    Args:
        models: name to .tflite file or bundle folder.
        config: Chip, and what to predict.

    Returns:
        One record for each model, in their order: the predicted latency, never a measured one.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: there are no models, one is damaged, or a cost table is asked for that does not fit the others.
        OSError: the emulated device cannot be made on this system.
        RuntimeError: the runtime refuses a model.
    """
    files = model_files(models)
    constants, device = read_constants(), config.chip()
    sysroot = make_sysroot(Path(config.cache) if config.cache else None)
    records: list[Record] = []
    for name, path in models.items():
        file = files[name]
        warnings = []
        if config.parity_check:
            logger.info(f"benchmark: {name}: does the emulated ARM compute the same?")
            warnings = [warning for warning in [parity_check(sysroot, path)] if warning]
        logger.info(f"benchmark: {name}: counting what one inference executes")
        found = profile_model(sysroot, file, fresh=config.fresh)
        if config.cost_table and not records:
            table = make_cost_table(found, file_sha256(file), device, constants)
            write_cost_table(table, Path(config.cost_table))
        elif config.cost_table:
            estimate = table.estimate_ms(found)
            logger.info(f"benchmark: {name}: {estimate:.1f} ms on one thread by the cost table of the first model")
        records.append(_record(name, file, list(models), found, config, constants, sysroot, warnings))
    return records


def profile_with_costs(file: Path, config: EmulatedConfig) -> tuple[Profile, CostTable]:
    """Profiles a model, unless its profile is kept, and makes its cost table.

    Raises:
        As `predict_models`.
    """
    sysroot = make_sysroot(Path(config.cache) if config.cache else None)
    found = profile_model(sysroot, file, fresh=config.fresh)
    return found, make_cost_table(found, file_sha256(file), config.chip(), read_constants())


def predict_latency(
    profile: Profile, device: Device, constants: Constants, threads: Any, operators: bool
) -> Prediction:
    """Everything that is predicted of a profiled model.

    Args:
        profile: Profile of the model.
        device: Device that the model is predicted for.
        constants: Constants of the timing model.
        threads: numbers of threads; 1 among them is what `ms` is about anyway.
        operators: Whether to list the operators.
    """
    value = predict_ms(profile, device, constants)
    fit = weights_bytes(profile) <= L2_BYTES
    estimates = []
    for count in thread_counts(threads):
        if count > 1:
            low, high = predict_threads_ms(profile, device, constants, count)
            estimates.append(
                ThreadsEstimate(count, round(low / (1 + constants.band), 3), round(high / (1 - constants.band), 3))
            )
    return Prediction(
        # A prediction that is off by the band's share lies anywhere between these ends of the true latency.
        ms=Estimate(round(value / (1 + constants.band), 3), round(value, 3), round(value / (1 - constants.band), 3)),
        threads=estimates,
        roof_ms=round(sum(roof_ms(operator, device, fit) for operator in profile.operators), 3),
        model=MODEL,
        constants={
            "l1_miss_cycles": constants.l1_miss_cycles,
            "l2_miss_ns": constants.l2_miss_ns,
            "call_cycles": constants.call_cycles,
            "memory_gbs": device.memory_gbs,
        },
        clock_mhz=device.clock_mhz,
        instructions=profile.instructions(),
        l1_misses=profile.total("l1_misses"),
        l2_misses=profile.total("l2_misses"),
        operators=_operators(profile, device, constants, fit) if operators else None,
    )


def _operators(profile: Profile, device: Device, constants: Constants, fit: bool) -> list[PredictedOperator]:
    found = []
    for index, operator in enumerate(profile.operators):
        overhead = operator.kind == "overhead"
        kernels = [symbol for symbol in profile.by_symbol(operator) if "ukernel" in symbol]
        found.append(
            PredictedOperator(
                index=None if overhead else index,
                name=operator.layer or operator.kind,
                kind=operator.kind,
                kernels=kernels,
                ms=round(operator_cost(profile, operator).ms(device, constants), 5),
                roof_ms=round(roof_ms(operator, device, fit), 5),
                instructions=profile.instructions(operator),
                l1_misses=sum(use.l1_misses for use in operator.uses),
                l2_misses=sum(use.l2_misses for use in operator.uses),
            )
        )
    return found


def _record(
    name: str,
    file: Path,
    names: list[str],
    profile: Profile,
    config: EmulatedConfig,
    constants: Constants,
    sysroot: Sysroot,
    warnings: list[str],
) -> Record:
    version, commit = own_version()
    prediction = predict_latency(profile, config.chip(), constants, config.threads, config.operators)
    validity = list(warnings)
    if profile.left_out:
        total = len(profile.operators) - 1
        validity.append(
            f"{len(profile.left_out)} of {total} operators ran outside the delegate: " + ", ".join(profile.left_out)
        )
    return Record(
        target=f"emulated {config.device}",
        model=identify(name, file),
        execution=Execution(
            runtime=profile.runtime,
            runtime_version=profile.runtime_version,
            delegate=profile.delegate,
            delegated_operators=profile.delegated,
            operators=len(profile.operators) - 1,
            left_out=list(profile.left_out),
            threads=1,
        ),
        machine=Machine(
            device=config.device,
            os=f"emulated on {os.uname().sysname} {os.uname().machine}, device {sysroot.digest}",
            processors=config.cores,
            affinity=None,
            soc=None,
            clusters=[Cluster("Cortex-A53", list(range(config.cores)), config.clock_mhz)],
        ),
        before=NOWHERE,
        after=NOWHERE,
        warmup=1,
        samples=0,
        seconds=0.0,
        interleaved=names,
        latency_ms=None,
        start=None,
        validity=validity,
        version=version,
        commit=commit,
        time_utc=now_utc(),
        prediction=prediction,
    )
