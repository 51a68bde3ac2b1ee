"""Figures of the camera for Prometheus (https://prometheus.io/docs/practices/naming), without anybody's name.

slimcam_frames_total            frames that were looked at
slimcam_frames_lost_total       frames of the source that were dropped
slimcam_events_total            by kind: appeared, recognised, unknown, left
slimcam_faces, slimcam_people   faces in view, and known people among them
slimcam_frame_age_seconds       since the capture of the newest frame, when asked; NaN before the first
slimcam_source_connected        1 while frames come from the source, else 0
slimcam_source_lost_seconds     since the last frame of a source that is lost, when asked; 0 while it is not
slimcam_stage_seconds           histogram by stage, see `slimcam.deploy.types.STAGES`

Of a camera whose models are updated:

slimcam_update_release                  the release in use; 0 for the models of the software
slimcam_update_available_release        the newest that is offered; that in use if there is none
slimcam_update_activity                 1 for what it does: idle, looking, ready, trial
slimcam_update_failed                   1 if the last look or release failed
slimcam_update_rollbacks_total          releases that were tried and not kept
slimcam_update_checked_timestamp_seconds  of the last successful look
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from slimcam.deploy.camera.outputs.config import MetricsConfig
from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.ota.device.status import ACTIVITIES, UpdateStatus
from slimcam.deploy.types import STAGES, Event, EventKind, Notice, Sighting, View

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds: from a match on a computer to a result on a slow board; 0.033 is a frame at 30 a second."""


class Metrics:
    """Counts views and serves the figures at `http://HOST:PORT/metrics`.

    Raises:
        OSError: the port is taken, or the address is none of this machine.
    """

    def __init__(self, config: MetricsConfig, update: Callable[[], UpdateStatus] | None = None) -> None:
        registry = CollectorRegistry()
        if update is not None:
            registry.register(_Updates(update))
        self._frames = Counter("slimcam_frames", "Frames that were looked at.", registry=registry)
        self._lost = Counter("slimcam_frames_lost", "Frames of the source that were dropped.", registry=registry)
        events = Counter("slimcam_events", "What happened to faces, by kind.", ["kind"], registry=registry)
        self._faces = Gauge("slimcam_faces", "Faces in view.", registry=registry)
        self._people = Gauge("slimcam_people", "Known people in view.", registry=registry)
        self._connected = Gauge("slimcam_source_connected", "Whether frames come from the source.", registry=registry)
        lost_for = Gauge("slimcam_source_lost_seconds", "Since the last frame of a lost source.", registry=registry)
        age = Gauge("slimcam_frame_age_seconds", "Since the capture of the newest frame.", registry=registry)
        stages = Histogram(
            "slimcam_stage_seconds", "What a stage takes of a frame.", ["stage"], buckets=BUCKETS, registry=registry
        )
        # All labels are there from the start: a rate needs a first value of 0.
        self._events = {kind: events.labels(kind) for kind in get_args(EventKind)}
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._captured = math.nan
        self._lost_since: float | None = None
        lost_for.set_function(lambda: 0.0 if self._lost_since is None else time.time() - self._lost_since)
        age.set_function(lambda: time.monotonic() - self._captured)
        try:
            self._server, self._thread = start_http_server(config.port or 0, config.host, registry)
        except OSError as error:
            raise OSError(f"metrics cannot be served at {config.host} port {config.port}: {error.strerror}") from error
        host = f"[{config.host}]" if ":" in config.host else config.host
        tell(f"the metrics are at http://{host}:{self.port}/metrics", logging.INFO)

    @property
    def port(self) -> int:
        """That is listened at."""
        return int(self._server.server_port)

    def show(self, view: View) -> None:
        """See `Output`."""
        self._captured = view.frame.captured
        self._frames.inc()
        self._lost.inc(view.frame.lost)
        self._count(view.sightings, view.events)
        for stage, milliseconds in view.milliseconds.items():
            if stage in self._stages and math.isfinite(milliseconds):
                self._stages[stage].observe(milliseconds / 1000)

    def notice(self, notice: Notice) -> None:
        """See `Output`."""
        self._connected.set(notice.source.connected)
        self._lost_since = notice.source.since if notice.source.state == "lost" else None
        self._count(notice.sightings, notice.events)

    def _count(self, sightings: Sequence[Sighting], events: Sequence[Event]) -> None:
        self._faces.set(len(sightings))
        identities = [sighting.identity for sighting in sightings if sighting.identity is not None]
        self._people.set(len({identity.person for identity in identities if identity.known}))
        for event in events:
            self._events[event.kind].inc()

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Updates(Collector):
    """Figures of updates, read when they are asked for."""

    def __init__(self, update: Callable[[], UpdateStatus]) -> None:
        self._update = update

    def collect(self) -> Iterator[Metric]:
        status, name = self._update(), "slimcam_update"
        available = status.release if status.available is None else status.available
        yield GaugeMetricFamily(f"{name}_release", "The release in use.", status.release)
        yield GaugeMetricFamily(f"{name}_available_release", "The newest release that is offered.", available)
        activity = GaugeMetricFamily(f"{name}_activity", "What the update does.", labels=["activity"])
        for one in ACTIVITIES:
            activity.add_metric([one], one == status.activity)
        yield activity
        yield GaugeMetricFamily(f"{name}_failed", "Whether the last look or release failed.", bool(status.error))
        yield CounterMetricFamily(f"{name}_rollbacks", "Releases that were not kept.", status.rollbacks)
        yield GaugeMetricFamily(f"{name}_checked_timestamp_seconds", "Of the last successful look.", status.checked)
