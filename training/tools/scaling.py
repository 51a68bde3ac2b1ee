"""How a training scales over GPUs, by calculation: images a second, what limits them, and what Partial FC saves.

    python -m slimcam.training.tools.scaling

Nothing is measured. A step is the sum of its parts, none hidden behind another: the network, the head, and the average
of all gradients over the devices (a ring). Every device has the whole head, or all centers beside a sampled one. Images
are prepared beside the step; of several hosts each prepares the whole batch, as `slimcam.training.fit.devices` has it.
The network is ResNet-50 at 112 px, whose multiplications go with the square of its width; slim ones reach less of a
GPU's speed than is assumed. What is assumed of the machines stands in `Machine`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid

GPUS = (1, 2, 4, 8, 16, 32, 64)
WIDTHS = (1.0, 0.5, 0.25)

MACS, WEIGHTS = 1.0e9, 23.5e6
"""Of ResNet-50 at 112 px without its classifier."""

FLOAT = 4
"""Bytes: centers, weights and gradients are float32."""

PASSES = 8
"""Times that a step reads or writes its centers: gradient, momentum, weights and their unit length."""

MAPS = 8
"""Times that it reads or writes the cosines of a batch: margin, softmax and their gradients."""

TABLES = 2
"""Arrays of all identities: centers and momentum. A sample is read from each, and written to it, with each step."""


@dataclass(frozen=True)
class Machine:
    """A host with GPUs.

    Attributes:
        flops: Operations a second that a convolutional network gets out of a GPU while it trains in bfloat16: 2,470
            images a second of ResNet-50 at 224 px, which NVIDIA's DeepLearningExamples (PyTorch, ResNet-50 v1.5) give
            for one A100, times 3 passes of 4.1 GMACs.
        head_flops: Operations a second of large float32 products (TF32, half of 156 T).
        memory: Bytes a second of a GPU's memory that streaming gets (80 % of 2 T).
        link: Bytes a second that a ring of GPUs of one host passes (NVLink).
        network: Bytes a second between hosts, for all GPUs of one (100 Gbit/s, 80 % of it).
        gpus: GPUs of a host.
        cores: Processor cores that prepare images on a host.
        image_ms: Milliseconds of a core for an image (docs/data.md: 0.36 to 0.41 at 64 px).
    """

    flops: float = 60e12
    head_flops: float = 78e12
    memory: float = 1.6e12
    link: float = 200e9
    network: float = 10e9
    gpus: int = 8
    cores: int = 64
    image_ms: float = 0.4


@dataclass(frozen=True)
class Training:
    """A training on one or more GPUs.

    Attributes:
        gpus: Number of them.
        width: Width of the network, a share of ResNet-50's.
        batch: Images of a step for each.
        identities: People to tell apart.
        sample: `loss.sample`.
        embedding: Dimensions of the embedding.
    """

    gpus: int
    width: float
    batch: int
    identities: int
    sample: float
    embedding: int

    @property
    def centers(self) -> float:
        """Identities that a step tells apart."""
        return self.identities * self.sample


def parts(training: Training, machine: Machine) -> dict[str, float]:
    """Seconds of a step by its parts, and of `input`, which prepares the next one meanwhile."""
    cosines = training.batch * training.centers
    head = FLOAT * training.centers * training.embedding
    # Each of the four copies of a sample, two in and two out, reads and writes it.
    passes = PASSES + (4 * TABLES if training.sample < 1 else 0)
    found = {
        "network": 6 * MACS * training.width**2 * training.batch / machine.flops,
        "head": 6 * cosines * training.embedding / machine.head_flops
        + (MAPS * FLOAT * cosines + passes * head) / machine.memory,
        "all-reduce": _ring(FLOAT * WEIGHTS * training.width**2 + head, training.gpus, machine),
    }
    found["input"] = training.gpus * training.batch * machine.image_ms / 1000 / machine.cores
    return found


def _ring(size: float, gpus: int, machine: Machine) -> float:
    """A ring passes all bytes but one share twice, at the pace of its slowest link."""
    pace = machine.link if gpus <= machine.gpus else machine.network
    return 2 * (gpus - 1) / gpus * size / pace


def speed(training: Training, machine: Machine) -> tuple[float, str]:
    """Images a second, and the part that takes the most of a step."""
    seconds = parts(training, machine)
    step = sum(seconds.values()) - seconds["input"]
    limit = "input" if seconds["input"] > step else max(seconds.keys() - {"input"}, key=lambda name: seconds[name])
    return training.gpus * training.batch / max(step, seconds["input"]), limit


def head_memory(training: Training) -> float:
    """Bytes of a GPU for the head.

    Centers, momentum and gradient, the cosines with what their gradient needs, and all centers beside a sample.
    """
    beside = TABLES * training.identities if training.sample < 1 else 0
    return FLOAT * ((3 * training.centers + beside) * training.embedding + 4 * training.batch * training.centers)


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.training.tools.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--identities", type=int, default=1_000_000, help="people to tell apart (%(default)s)")
    parser.add_argument("--sample", type=float, default=0.1, help="loss.sample (%(default)s)")
    parser.add_argument("--embedding", type=int, default=512, help="dimensions of the embedding (%(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="images of a step for each GPU (%(default)s)")
    options = parser.parse_args(arguments)
    if min(options.identities, options.embedding, options.batch) < 1 or not 0 < options.sample <= 1:
        sys.exit("scaling: identities, embedding and batch are 1 or more, sample is above 0 and up to 1")
    machine = Machine()
    shares = dict.fromkeys((1.0, options.sample))

    def training(gpus: int, width: float, sample: float) -> Training:
        return Training(gpus, width, options.batch, options.identities, sample, options.embedding)

    rows: list[tuple[str, ...]] = [
        ("GPUs", *(f"width {width:g}, {sample:.0%}" for width in WIDTHS for sample in shares))
    ]
    for gpus in GPUS:
        cells = []
        for width in WIDTHS:
            for sample in shares:
                images, limit = speed(training(gpus, width, sample), machine)
                cells.append(f"{images:,.0f} {limit}")
        rows.append((str(gpus), *cells))
    show(grid(rows))
    names = list(parts(training(1, 1.0, 1.0), machine))
    rows = [("step of", *(f"{name}, ms" for name in names), "head, GB")]
    for gpus in (1, machine.gpus, GPUS[-1]):
        for sample in shares:
            case = training(gpus, 1.0, sample)
            times = (f"{1000 * seconds:.1f}" for seconds in parts(case, machine).values())
            rows.append((f"{gpus} GPUs, {sample:.0%}", *times, f"{head_memory(case) / 1e9:.1f}"))
    show("\n" + grid(rows))


if __name__ == "__main__":
    main()
