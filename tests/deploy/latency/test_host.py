from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import Bundle
from slimcam.deploy.latency.host import HostConfig, confined, measure_on_host
from slimcam.deploy.latency.record import Latency

SHORT = HostConfig(warmup=2, samples=30, seconds=0.05)


def times_are_ordered(times: Latency) -> bool:
    assert times.p50 is not None
    assert times.p90 is not None
    assert times.p99 is not None
    return 0 < times.min <= times.p50 <= times.p90 <= times.p99 <= times.max


@pytest.fixture
def model_file(tmp_path: Path, float_model: bytes) -> Path:
    path = tmp_path / "dense.tflite"
    path.write_bytes(float_model)
    return path


def test_a_file_and_a_bundle_are_measured_in_turn(
    model_file: Path, make_bundle: Callable[..., Bundle], capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle()
    dense, tiny = measure_on_host({"dense": model_file, "tiny": bundle.path}, SHORT)
    assert (dense.model.name, tiny.model.name) == ("dense", "tiny")
    assert dense.model.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert (tiny.model.sha256, tiny.model.size_bytes) == (bundle.sha256, bundle.model.stat().st_size)
    for record in (dense, tiny):
        assert record.samples == dense.samples >= SHORT.samples
        assert record.latency_ms is not None
        assert record.start is not None
        assert times_are_ordered(record.latency_ms)
        assert record.seconds >= SHORT.seconds
        assert record.interleaved == ["dense", "tiny"]
        assert (record.execution.delegate, record.execution.delegated_operators) == ("XNNPACK", 6)
        assert record.start.init_ms > 0
        assert record.start.first_ms > 0
    assert "start-up of dense" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to read peak memory")
def test_memory_is_the_models_not_the_measuring_process(model_file: Path) -> None:
    ballast = np.ones(200_000_000, np.uint8)
    (record,) = measure_on_host({"dense": model_file}, SHORT)
    assert record.start is not None
    assert record.start.peak_rss_bytes is not None
    assert record.start.peak_rss_bytes < 190_000_000 < ballast.size
    assert record.start.model_rss_bytes is not None
    assert 0 < record.start.model_rss_bytes < 30_000_000


def test_more_seconds_than_samples_take_more_samples(model_file: Path) -> None:
    (record,) = measure_on_host({"dense": model_file}, HostConfig(warmup=0, samples=1, seconds=0.2))
    assert record.samples > 1


def test_bad_models_are_named(tmp_path: Path, int8_model: bytes, make_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(ValueError, match="no models"):
        measure_on_host({}, SHORT)
    with pytest.raises(FileNotFoundError, match=r"gone\.tflite"):
        measure_on_host({"gone": tmp_path / "gone.tflite"}, SHORT)
    (tmp_path / "cut.tflite").write_bytes(int8_model[:1000])
    with pytest.raises(RuntimeError, match=r"^\S+cut\.tflite: not a whole TFLite model"):
        measure_on_host({"cut": tmp_path / "cut.tflite"}, SHORT)
    bundle = make_bundle()
    bundle.model.write_bytes(int8_model[:1000])
    with pytest.raises(ValueError, match=r"model\.tflite is altered"):
        measure_on_host({"bundle": bundle.path}, SHORT)


def test_each_number_of_threads_is_measured_on_as_many_processors(model_file: Path) -> None:
    usable = sorted(os.sched_getaffinity(0))
    counts = [1, 2] if len(usable) > 1 else [1]
    before = os.sched_getaffinity(0)
    records = measure_on_host({"dense": model_file}, replace(SHORT, threads=counts))
    assert [record.execution.threads for record in records] == counts
    for record in records:
        assert record.execution.affinity is not None
        assert len(record.execution.affinity) == record.execution.threads
        assert set(record.execution.affinity) <= set(usable)
    assert os.sched_getaffinity(0) == before


def test_the_processors_that_are_named_are_used(model_file: Path) -> None:
    last = max(os.sched_getaffinity(0))
    (record,) = measure_on_host({"dense": model_file}, replace(SHORT, processors=[last]))
    assert record.execution.affinity == [last]
    with pytest.raises(ValueError, match=r"processors \[9999\] cannot be used here; the usable ones are"):
        measure_on_host({"dense": model_file}, replace(SHORT, processors=[9999]))


def test_threads_stay_on_the_processors_of_their_run() -> None:
    order: list[set[int]] = []
    (first, *_) = sorted(os.sched_getaffinity(0))
    with confined([first]):
        thread = threading.Thread(target=lambda: order.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert order == [{first}]


@pytest.mark.parametrize("change", [{"threads": 0}, {"samples": 0}, {"warmup": -1}, {"seconds": -1.0}])
def test_impossible_settings_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or more threads and samples"):
        HostConfig(**change)  # type: ignore[arg-type]


def test_fewer_processors_than_threads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"processors=\[0\] are fewer than the 2 threads"):
        HostConfig(threads=2, processors=[0])
