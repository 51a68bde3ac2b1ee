"""What the outputs are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOPIC = re.compile(r"[^#+\x00-\x1f\x7f\ud800-\udfff]+")


@dataclass
class MqttConfig:
    """A broker to publish to, see `slimcam.deploy.camera.outputs.mqtt`. The password is in the environment,
    `SLIMCAM_MQTT_PASSWORD`.

    Attributes:
        host: Name or address of the broker; `None` is no MQTT.
        port: Port of the broker; `None` is 1883, or 8883 with TLS.
        user: User to log in as; `None` is none.
        tls: Whether to encrypt; the broker's certificate is checked.
        ca: PEM file of the authorities that are trusted; `None` is those of the system.
        id: Name of this camera, in its topics and for the broker: letters, digits, `-`, `_`. `None` is made
            of the names of the machine and the source.
        base: First level of the topics, which start `base/id/`.
        discovery: Topic prefix of Home Assistant's discovery; `None` is none.
        qos: Quality of service of all messages, 0, 1 or 2.
        image: Whether the face of the last event is published as a picture, for an image entity. It is in the clear.
        keepalive: Seconds after which a broker tells, about, that the camera is gone.
    """

    host: str | None = None
    port: int | None = None
    user: str | None = None
    tls: bool = False
    ca: str | None = None
    id: str | None = None
    base: str = "slimcam"
    discovery: str | None = "homeassistant"
    qos: int = 1
    keepalive: int = 30
    image: bool = False

    def __post_init__(self) -> None:
        if self.host is not None and not re.fullmatch(r"[\w.:%-]+", self.host):
            # Not repeated: in a URL there may be a password.
            raise ValueError("mqtt.host is the name or address of a broker, without mqtt:// and user")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"mqtt.port is from 1 to 65535; got {self.port}")
        if self.ca is not None and not self.tls:
            raise ValueError("mqtt.ca is given, but not mqtt.tls=true")
        if self.id is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.id):
            raise ValueError(f"mqtt.id is 1 to 64 letters, digits, - and _; got {self.id!r}")
        for name, topic in (("base", self.base), ("discovery", self.discovery)):
            if topic is not None and (not _TOPIC.fullmatch(topic) or topic[0] in "/$" or topic[-1] == "/"):
                raise ValueError(f"mqtt.{name} is a topic such as 'slimcam', without # and +; got {topic!r}")
        if self.qos not in (0, 1, 2):
            raise ValueError(f"mqtt.qos is 0, 1 or 2; got {self.qos}")
        if not 5 <= self.keepalive <= 65535:
            raise ValueError(f"mqtt.keepalive is from 5 to 65535 seconds; got {self.keepalive}")


@dataclass
class MetricsConfig:
    """Figures for Prometheus, see `slimcam.deploy.camera.outputs.metrics`.

    Attributes:
        port: Port to listen at; `None` is no metrics, 0 any free one.
        host: Address to listen at. Whoever reaches it may read.
    """

    port: int | None = None
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ValueError(f"metrics.port is from 0 to 65535; got {self.port}")
        if not self.host:
            raise ValueError("metrics.host is empty; 127.0.0.1 is this machine only, 0.0.0.0 any")


@dataclass
class OutputsConfig:
    """Outputs of the camera, each off unless asked for.

    Attributes:
        window: Whether to show a window.
        video: Video file to write, `.avi`, `.mkv` or `.mp4`, see `slimcam.deploy.camera.outputs.video`.
        video_fps: Frames a second of that file, up to 240; null is the source's own, 60 at the most.
        lines: File that JSON lines are added to, see `slimcam.deploy.camera.outputs.lines`; `-` is the standard output.
        lines_of: What a line is of, `events` or `frames`.
        mqtt: MQTT broker, see `MqttConfig`.
        metrics: Prometheus, see `MetricsConfig`.
    """

    window: bool = False
    video: str | None = None
    video_fps: float | None = None
    lines: str | None = None
    lines_of: str = "events"
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        if self.lines_of not in ("events", "frames"):
            raise ValueError(f"lines_of is events or frames; got {self.lines_of!r}")
        if self.video_fps is not None and not 0 < self.video_fps <= 240:
            raise ValueError(f"outputs.video_fps is above 0, up to 240, or null; got {self.video_fps}")
        for name, path in (("video", self.video), ("lines", self.lines)):
            if path == "":
                raise ValueError(f"{name} is empty; name a file, or null for none")
