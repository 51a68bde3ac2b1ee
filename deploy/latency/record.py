"""The record of a latency measurement: one schema for every target.

What a credible report needs (device, runtime and delegate really used, model hash, threads, affinity, governor,
frequency and temperature before and after, percentiles rather than a mean) follows MLPerf Mobile's SingleStream
scenario, https://github.com/mlcommons/mobile_app_open.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from slimcam.deploy.common.files import write_text
from slimcam.deploy.latency import schema

SCHEMA_VERSION = 3


@dataclass(frozen=True)
class MeasuredModel:
    """What was measured. `size_bytes` is the size of the .tflite file, `sha256` its digest."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Execution:
    """What executed it.

    Attributes:
        runtime: Library or tool that executed the model.
        runtime_version: Version of the runtime.
        delegate: Delegate that was really used, or "none".
        delegated_operators: Operators of the model's graph that the delegate took; null where the target's tool does
            not tell.
        operators: Number of operators of the model's graph.
        left_out: Operators that the delegate left to the runtime, as far as they are known.
        threads: Number of threads of the interpreter.
        affinity: Processors that the threads were confined to, null where they were not.
    """

    runtime: str
    runtime_version: str
    delegate: str
    delegated_operators: int | None
    operators: int
    left_out: list[str]
    threads: int
    affinity: list[int] | None = None


@dataclass(frozen=True)
class Cluster:
    """Processors of one kind. `core` is for example "Cortex-A53"; null, as `max_mhz`, where it cannot be read."""

    core: str | None
    processors: list[int]
    max_mhz: float | None


@dataclass(frozen=True)
class Machine:
    """What it ran on.

    Attributes:
        device: Name of the board, the phone or the processor.
        os: Operating system, its release and the architecture.
        processors: Number of processors.
        soc: Chip, for example "MSM8953"; null where the machine does not tell.
        affinity: Processors that the measuring process may use; null where that cannot be read.
        clusters: Processors by kind, the fastest first; empty where they cannot be read.
    """

    device: str
    os: str
    processors: int
    affinity: list[int] | None
    soc: str | None = None
    clusters: list[Cluster] = field(default_factory=list)


@dataclass(frozen=True)
class Condition:
    """The state of the machine at a moment: null where it cannot be read.

    `frequency_mhz` is the fastest clock and `governor` the first among the processors that were used.
    """

    governor: str | None
    frequency_mhz: float | None
    temperature_c: float | None
    load: float | None


@dataclass(frozen=True)
class Latency:
    """Milliseconds: of one inference, input and output copies not included, or of what a camera does.

    Percentiles are null where the target's tool does not tell them (`benchmark_model` has the median alone, and its
    older builds not even that).
    """

    mean: float
    min: float
    p50: float | None
    p90: float | None
    p99: float | None
    max: float


@dataclass(frozen=True)
class Start:
    """The first seconds of the model in a process of its own.

    Attributes:
        init_ms: Milliseconds from the file to an interpreter that is ready.
        first_ms: Milliseconds of the first inference.
        peak_rss_bytes: Peak resident memory of that process; null where it cannot be read.
        model_rss_bytes: Memory that the model added to that process; null where it cannot be read.
    """

    init_ms: float
    first_ms: float
    peak_rss_bytes: int | None
    model_rss_bytes: int | None


@dataclass(frozen=True)
class Operator:
    """Measured time of one node that the runtime executed, per inference.

    Attributes:
        name: Name that the runtime gives the node: that of its tensors or, inside a delegate, of the kernel.
        kind: Kind of the node, for example "CONV_2D", or a delegate's node.
        ms: Mean milliseconds per inference.
        calls: Calls per inference.
    """

    name: str
    kind: str
    ms: float
    calls: int


@dataclass(frozen=True)
class Estimate:
    """A predicted figure between the ends of its error band, in milliseconds."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ThreadsEstimate:
    """Predicted milliseconds on some threads: an interval, because scaling depends on what is not modeled."""

    threads: int
    low: float
    high: float


@dataclass(frozen=True)
class PredictedOperator:
    """What one operator is predicted to take on one thread, per inference.

    Attributes:
        index: Index in the model's graph; null where the runtime added the node itself.
        name: Name of the layer, or of the tensor that it makes.
        kind: Kind of the operator, for example "CONV_2D".
        kernels: Microkernels that executed the operator.
        ms: Predicted milliseconds.
        roof_ms: Least milliseconds that the processor could take, from its peak arithmetic and its memory bandwidth.
        instructions: Executed instructions, exact.
        l1_misses: Misses of a simulated first-level data cache.
        l2_misses: Misses of a simulated second-level cache.
    """

    index: int | None
    name: str
    kind: str
    kernels: list[str]
    ms: float
    roof_ms: float
    instructions: int
    l1_misses: int
    l2_misses: int


@dataclass(frozen=True)
class Prediction:
    """Latency from a model of the machine, never from a clock.

    Attributes:
        ms: Predicted milliseconds on one thread, with their error band.
        threads: Predicted milliseconds on more threads.
        roof_ms: Least milliseconds that the processor could take on one thread.
        model: Timing model and its version, for example "cortex-a53-inorder 1".
        constants: Constants of the timing model, with their units in their names, for example `{"l2_miss_ns": 22.4}`.
        clock_mhz: Clock of the predicted processor.
        instructions: Instructions per inference, exact.
        l1_misses: Misses per inference of a simulated first-level data cache.
        l2_misses: Misses per inference of a simulated second-level cache.
        operators: Predictions of the operators in execution order, on request.
    """

    ms: Estimate
    threads: list[ThreadsEstimate]
    roof_ms: float
    model: str
    constants: dict[str, float]
    clock_mhz: float
    instructions: int
    l1_misses: int
    l2_misses: int
    operators: list[PredictedOperator] | None = None


@dataclass(frozen=True)
class CameraRun:
    """What a camera did; the record's latency is then from a frame's capture to its answer.

    Attributes:
        source: Source of the frames, without credentials.
        detector: Model that found the faces; the record's model recognized them.
        frames: Number of frames that were answered.
        lost: Number of frames of the source that were overtaken by newer ones, or too old.
        fps: Frames that were answered per second.
        faces: Mean number of faces in a frame.
        stages: Latency of each of `slimcam.deploy.types.STAGES`, over the frames in which it had something to do.
        peak_rss_bytes: Peak resident memory of the camera's process; null where it cannot be read.
    """

    source: str
    detector: MeasuredModel
    frames: int
    lost: int
    fps: float
    faces: float
    stages: dict[str, Latency]
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Record:
    """One model measured, or predicted, on one target with one number of threads.

    Attributes:
        target: Target on which it was measured, for example "host" or "ssh pi@kitchen".
        warmup: Untimed inferences before the first sample.
        samples: Timed inferences.
        seconds: Seconds from the first sample to the last, those of interleaved models included.
        interleaved: Names of the models that were measured in the same run, in turn.
        latency_ms: Measured latency; null where the target only predicts.
        start: Measured start-up; null where the target only predicts.
        profile: Measured time of each operator; null where it was not asked for.
        prediction: Predicted latency; null where the target measures.
        camera: Run of a camera; null where a model was measured.
        validity: Validity warnings, one line each; empty for a sound measurement.
        version: Version of slimcam.
        commit: Commit of slimcam's git checkout; null where it runs from none.
        time_utc: Time at the end of the measurement, ISO 8601.

    Raises:
        ValueError: it has both or neither of a measured and a predicted latency.
    """

    target: str
    model: MeasuredModel
    execution: Execution
    machine: Machine
    before: Condition
    after: Condition
    warmup: int
    samples: int
    seconds: float
    interleaved: list[str]
    latency_ms: Latency | None
    start: Start | None
    validity: list[str]
    version: str
    commit: str | None
    time_utc: str
    profile: list[Operator] | None = None
    prediction: Prediction | None = None
    camera: CameraRun | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if (self.latency_ms is None) == (self.prediction is None):
            raise ValueError(f"{self.model.name}: a record holds either a measured or a predicted latency")

    @property
    def predicted(self) -> bool:
        return self.prediction is not None

    @property
    def typical_ms(self) -> float:
        """The figure that models are compared by: the predicted latency or the measured median, else the mean."""
        if self.latency_ms is None:
            assert self.prediction is not None
            return self.prediction.ms.value
        return self.latency_ms.mean if self.latency_ms.p50 is None else self.latency_ms.p50


def first_of_each(records: Sequence[Record]) -> dict[str, Record]:
    """Each model's first record, that of the first number of threads, by the model's name."""
    found: dict[str, Record] = {}
    for record in records:
        found.setdefault(record.model.name, record)
    return found


def write_records(records: Sequence[Record], path: Path) -> None:
    """Writes the records as a JSON list, whole or not at all."""
    write_text(path, json.dumps([asdict(record) for record in records], indent=2, allow_nan=False) + "\n")


def read_records(path: Path) -> list[Record]:
    """Reads what `write_records` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no benchmark records of this schema version.
    """
    try:
        return parse_records(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path}: not benchmark records of schema version {SCHEMA_VERSION} ({error}); run the benchmark again"
        ) from error


def parse_records(text: str) -> list[Record]:
    """The records in a JSON text.

    Raises:
        ValueError: it holds something else; the message names the field.
    """
    entries = json.loads(text)
    if not isinstance(entries, list):
        raise ValueError("it is not a list")
    for entry in entries:
        version = entry.get("schema_version") if isinstance(entry, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"a record has schema version {version}")
    return [schema.from_json(Record, entry, f"record {index}") for index, entry in enumerate(entries)]
