"""Latency on this machine: models in one process, in turn, so that their ratios hold while the machine's load varies.

SingleStream style: one image at a time, the next when the last is done. Every timed inference follows an untimed one
of the same model, because interleaved models evict each other's weights from the caches. Measured beside a 94 MB
ResNet-50 on an EPYC with 1 MB of L2: a model of 6 us takes 20 us without the untimed one and 6 us with it; a
MobileFaceNet of 2.2 ms is 5 to 14 % slower without it, and its fastest sample 1 to 3 % slower with it.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import deploy
from deploy.benchmark.inputs import random_input
from deploy.benchmark.machine import git_commit, read_condition, read_machine
from deploy.benchmark.measure import Execution, Model, Record, doubts, latency
from deploy.benchmark.start import measure_start
from deploy.bundle import file_sha256, load_bundle
from deploy.runtime import Interpreter

PROGRESS_SECONDS = 5.0


@dataclass
class HostConfig:
    """How long to measure; MLPerf Mobile asks for 1,024 samples and 60 seconds.

    Attributes:
        threads: of each interpreter.
        warmup: untimed inferences of each model before the first sample.
        samples: timed inferences of each model, at the least.
        seconds: of sampling, all models together, at the least.
    """

    threads: int = 1
    warmup: int = 10
    samples: int = 200
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.threads < 1 or self.samples < 1 or self.warmup < 0 or self.seconds < 0:
            raise ValueError(
                "a benchmark needs 1 or more threads and samples, and no negative warmup or seconds; "
                f"got threads={self.threads}, samples={self.samples}, warmup={self.warmup}, seconds={self.seconds}"
            )


def measure(models: Mapping[str, Path], config: HostConfig) -> list[Record]:
    """Measures models on this machine, interleaved; progress goes to stderr.

    Args:
        models: name to .tflite file or bundle folder.
        config: how long.

    Returns:
        One record for each model, in their order.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: there are no models, or one is damaged.
        RuntimeError: the runtime refuses a model.
    """
    if not models:
        raise ValueError("there are no models to measure; name one or more")
    files = {name: model_file(path) for name, path in models.items()}
    starts = {}
    for name, file in files.items():
        _say(f"start-up of {name}")
        starts[name] = measure_start(file, config.threads)
    interpreters = {name: Interpreter(file, config.threads) for name, file in files.items()}
    executions = {name: _execution(interpreter, config.threads) for name, interpreter in interpreters.items()}
    machine, before = read_machine(), read_condition()
    samples, seconds = _sample(interpreters, config)
    after = read_condition()
    version, commit = _version()
    records = []
    for name, file in files.items():
        latency_ms = latency(samples[name])
        records.append(
            Record(
                target="host",
                predicted=False,
                model=Model(name, file_sha256(file), file.stat().st_size),
                execution=executions[name],
                machine=machine,
                before=before,
                after=after,
                warmup=config.warmup,
                samples=len(samples[name]),
                seconds=round(seconds, 3),
                interleaved=list(models),
                latency_ms=latency_ms,
                start=starts[name],
                validity=doubts(len(samples[name]), latency_ms, executions[name], machine, before, after),
                version=version,
                commit=commit,
                time_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
        )
    return records


def model_file(path: Path) -> Path:
    """The .tflite file of a path that names one, or a bundle (which is checked).

    Raises:
        FileNotFoundError: there is no such file or bundle.
        ValueError: the bundle is damaged.
    """
    if path.is_dir():
        return load_bundle(path).model
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such .tflite file or bundle")
    return path


def _sample(interpreters: Mapping[str, Interpreter], config: HostConfig) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each sample of each model, and the seconds from the first to the last."""
    for interpreter in interpreters.values():
        interpreter.feed(random_input(interpreter.input))
        for _ in range(config.warmup):
            interpreter.invoke()
    samples: dict[str, list[float]] = {name: [] for name in interpreters}
    begin = said = time.perf_counter()
    seconds, rounds = 0.0, 0
    while rounds < config.samples or seconds < config.seconds:
        for name, interpreter in interpreters.items():
            interpreter.invoke()
            started = time.perf_counter_ns()
            interpreter.invoke()
            samples[name].append((time.perf_counter_ns() - started) / 1e6)
        rounds += 1
        now = time.perf_counter()
        seconds = now - begin
        if now - said >= PROGRESS_SECONDS:
            said = now
            left = max(config.seconds - seconds, (config.samples - rounds) * seconds / rounds)
            _say(f"{rounds} samples of each model, {seconds:.0f} s, about {max(left, 0):.0f} s left")
    return samples, seconds


def _execution(interpreter: Interpreter, threads: int) -> Execution:
    delegation = interpreter.delegation()
    return Execution(
        runtime=interpreter.runtime.name,
        runtime_version=interpreter.runtime.version,
        delegate=delegation.delegate,
        delegated_operators=delegation.delegated,
        operators=delegation.total,
        left_out=list(delegation.left_out),
        threads=threads,
    )


def _version() -> tuple[str, str | None]:
    """slimcam's version and the commit of its checkout, where it runs from one."""
    try:
        version = importlib.metadata.version("slimcam")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return version, git_commit(Path(deploy.__path__[0]).parent)


def _say(line: str) -> None:
    print(f"benchmark: {line}", file=sys.stderr, flush=True)
