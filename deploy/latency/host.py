"""Latency on this machine: models in one process, in turn, so that their ratios hold while the machine's load varies.

SingleStream style: one image at a time, the next when the last is done. Every timed inference follows an untimed one
of the same model, because interleaved models evict each other's weights from the caches. Measured beside a 94 MB
ResNet-50 on an EPYC with 1 MB of L2: a model of 6 us takes 20 us without the untimed one and 6 us with it; a
MobileFaceNet of 2.2 ms is 5 to 14 % slower without it, and its fastest sample 1 to 3 % slower with it.

Threads are confined to as many processors as there are threads: one thread that wanders between cores, or from a big
core to a little one, has no latency of its own.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.latency.inputs import random_input
from slimcam.deploy.latency.machine import pinning_order, read_condition, read_machine
from slimcam.deploy.latency.provenance import execution, identify, now_utc, own_version
from slimcam.deploy.latency.record import Condition, Record, Start
from slimcam.deploy.latency.request import check_sampling, model_files, thread_counts
from slimcam.deploy.latency.start import measure_start
from slimcam.deploy.latency.statistics import latency, slowdown, validity_warnings

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0


@dataclass
class HostConfig:
    """How long to measure; MLPerf Mobile asks for 1,024 samples and 60 seconds.

    Attributes:
        threads: Number of threads of each interpreter, or a list of numbers to measure each.
        processors: Processors to use, in this order; null for the fastest ones, one of each core first.
        warmup: Untimed inferences of each model before the first sample.
        samples: Timed inferences of each model and number of threads, at the least.
        seconds: Least seconds of sampling, all models and numbers of threads together.
    """

    threads: Any = 1
    processors: list[int] | None = None
    warmup: int = 10
    samples: int = 200
    seconds: float = 10.0

    def __post_init__(self) -> None:
        check_sampling(self.threads, self.samples, self.warmup, self.seconds)
        counts = thread_counts(self.threads)
        if self.processors is not None and max(counts) > len(set(self.processors)):
            raise ValueError(
                f"processors={list(self.processors)} are fewer than the {max(counts)} threads; name as many or more"
            )


@dataclass
class Run:
    """One model with one number of threads, and what it gave."""

    name: str
    file: Path
    threads: int
    processors: list[int] | None
    start: Start
    interpreter: Interpreter
    samples: list[float] = field(default_factory=list)


def measure_on_host(models: Mapping[str, Path], config: HostConfig) -> list[Record]:
    """Measures models on this machine, interleaved; progress goes to stderr.

    Args:
        models: name to .tflite file or bundle folder.
        config: how long.

    Returns:
        One record for each number of threads and model, in their order.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: there are no models, one is damaged, or this process may not use the processors that are named.
        RuntimeError: the runtime refuses a model.
    """
    runs = prepare_runs(models, config)
    machine = read_machine()
    seconds, before, after = sample(runs, config)
    version, commit = own_version()
    records = []
    for run in runs:
        latency_ms = latency(run.samples)
        executed = execution(run.interpreter, run.threads, run.processors)
        records.append(
            Record(
                target="host",
                model=identify(run.name, run.file),
                execution=executed,
                machine=machine,
                before=before,
                after=after,
                warmup=config.warmup,
                samples=len(run.samples),
                seconds=round(seconds, 3),
                interleaved=list(models),
                latency_ms=latency_ms,
                start=run.start,
                validity=validity_warnings(
                    len(run.samples), latency_ms, executed, machine, before, after, slowdown(run.samples)
                ),
                version=version,
                commit=commit,
                time_utc=now_utc(),
            )
        )
    return records


def prepare_runs(models: Mapping[str, Path], config: HostConfig) -> list[Run]:
    """Opens each model with each number of threads.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: as `measure` does.
    """
    files = model_files(models)
    order = _processors(config.processors, read_machine().affinity)
    runs = []
    for threads in thread_counts(config.threads):
        chosen = None if order is None else order[:threads]
        for name, file in files.items():
            logger.info(f"benchmark: start-up of {name}" + (f", {threads} threads" if threads > 1 else ""))
            # The runtime's threads inherit where they may run from the one that makes them.
            with confined(chosen):
                runs.append(Run(name, file, threads, chosen, measure_start(file, threads), Interpreter(file, threads)))
    return runs


def sample(runs: Sequence[Run], config: HostConfig) -> tuple[float, Condition, Condition]:
    """Fills in the milliseconds of each run; gives the seconds from the first to the last sample and the conditions.

    The condition before is read after the warm-up, when the governor has raised the clock.
    """
    for run in runs:
        run.interpreter.feed(*map(random_input, run.interpreter.inputs))
    return interleave([Timed(run.interpreter.invoke, run.samples, run.processors) for run in runs], config)


@dataclass(frozen=True)
class Timed:
    """What `interleave` times.

    Attributes:
        invoke: One inference.
        samples: Gets the milliseconds of each.
        processors: Processors to run it on; anywhere where it is `None`.
    """

    invoke: Callable[[], object]
    samples: list[float]
    processors: Sequence[int] | None = None


def interleave(timed: Sequence[Timed], config: HostConfig) -> tuple[float, Condition, Condition]:
    """Times inferences in turn; what it gives is as for `sample`."""
    used = {processor for each in timed for processor in each.processors or ()} or None
    for each in timed:
        with confined(each.processors):
            for _ in range(config.warmup):
                each.invoke()
    before = read_condition(processors=used)
    begin = reported = time.perf_counter()
    seconds, rounds = 0.0, 0
    while rounds < config.samples or seconds < config.seconds:
        for each in timed:
            with confined(each.processors):
                each.invoke()
                started = time.perf_counter_ns()
                each.invoke()
                each.samples.append((time.perf_counter_ns() - started) / 1e6)
        rounds += 1
        now = time.perf_counter()
        seconds = now - begin
        if now - reported >= PROGRESS_SECONDS:
            reported = now
            left = max(config.seconds - seconds, (config.samples - rounds) * seconds / rounds)
            logger.info(f"benchmark: {rounds} samples of each model, {seconds:.0f} s, about {max(left, 0):.0f} s left")
    return seconds, before, read_condition(processors=used)


@contextmanager
def confined(processors: Sequence[int] | None) -> Iterator[None]:
    """Keeps this thread, and the threads and processes that it makes, on some processors; anywhere where it is None."""
    if processors is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def pinned(threads: int) -> list[int] | None:
    """The processors to run so many threads on; `None` where this system cannot confine them."""
    order = _processors(None, read_machine().affinity)
    return None if order is None else order[:threads]


def _processors(wanted: Sequence[int] | None, usable: Sequence[int] | None) -> list[int] | None:
    """The processors to confine threads to, the first ones first; None where the system cannot confine them."""
    if usable is None:
        return None
    if wanted is None:
        return pinning_order(usable)
    if missing := sorted(set(wanted) - set(usable)):
        raise ValueError(f"processors {missing} cannot be used here; the usable ones are {list(usable)}")
    return list(dict.fromkeys(wanted))
