"""What the camera sees, published to an MQTT broker, and known to Home Assistant without its user's doing.

    BASE/ID/availability    retained: `online`, or `offline`, which the broker itself tells when the camera is gone
    BASE/ID/state           retained: people (faces in view), known (of them), present (people > 0), last (name of the
                            person recognised last, or null), last_time (when, ISO 8601 in UTC)
    BASE/ID/event           each event as in `slimcam.deploy.camera.outputs.lines`, and its kind as event_type once more
    BASE/ID/source          retained: state (connecting, connected, lost, ended), connected (true or false), since
                            (when, ISO 8601 in UTC; if lost, that of its last frame), kind (pictures, clip, live)
    BASE/ID/update          retained, of a camera whose models are updated: what Home Assistant's `update` entity takes
                            (https://www.home-assistant.io/integrations/update.mqtt/), and error, rollbacks
    BASE/ID/image           retained, if asked for: the face of the last one recognized or found unknown, JPEG
    DISCOVERY/device/ID/config  retained: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload

Names are in the JSON of messages, never in a topic.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from slimcam.deploy.camera.outputs.config import MqttConfig
from slimcam.deploy.camera.outputs.lines import as_json, clean, event_record, times
from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Event, EventKind, Identity, Notice, SourceStatus, View
from slimcam.deploy.vision.align import face_boxes

PASSWORD = "SLIMCAM_MQTT_PASSWORD"
PENDING = 1000
"""Events that wait for a connection; older ones are dropped."""

BACK_OFF = (1, 30)
"""Seconds between attempts to connect, the first and the longest; they double."""

BACK_OFF_TAKEN = (30, 120)
"""The same where another client takes the connection over."""

SHORT, OFTEN = 10.0, 3
"""Connections that last fewer seconds, so many in a row, are ended by another client's."""

_GOODBYE = 2.0
"""Seconds that closing waits for what is still to be sent."""

_FULL = 0.1
"""Seconds after which the greeting is tried again, where the client had no room for it."""


@dataclass(frozen=True)
class State:
    """Who is before the camera, as its events tell.

    Attributes:
        present: Identity of each track in view, as far as it is known.
        last: Name of the person recognized last, and when in Unix time.
    """

    present: dict[int, Identity | None] = field(default_factory=dict)
    last: tuple[str | None, float] | None = None

    def after(self, event: Event) -> State:
        """The state that an event leads to."""
        present = {track: identity for track, identity in self.present.items() if track != event.track}
        if event.kind != "left":
            present[event.track] = event.identity
        recognised = event.kind == "recognised" and event.identity is not None
        last = (event.identity.name, event.at) if recognised and event.identity else self.last
        return replace(self, present=present, last=last)

    def record(self) -> dict[str, Any]:
        """As it is published."""
        name, at = self.last or (None, None)
        return {
            "people": len(self.present),
            "known": sum(identity is not None and identity.known for identity in self.present.values()),
            "present": bool(self.present),
            "last": clean(name),
            "last_time": times(at)["time"] if at is not None else None,
        }


def face_jpeg(image: NDArray[np.uint8], points: NDArray[np.float32]) -> bytes:
    """A face with what is around it, as it is in the frame, as JPEG."""
    x, y, width, height = face_boxes(points)[0].tolist()
    side = 1.6 * max(width, height)
    left, top = max(0, round(x + (width - side) / 2)), max(0, round(y + (height - side) / 2))
    cut = image[top : max(top + 1, round(top + side)), left : max(left + 1, round(left + side))]
    if not cut.size:
        cut = image
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(cut, cv2.COLOR_RGB2BGR))[1])


def own_id(source: str) -> str:
    """The id of a camera that was given none: the machine's name, and what tells its source from others.

    Args:
        source: The source as it was asked for. There may be a password in it, so that guessing at what is made of it is
            made slow.
    """
    machine = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname())[:50]
    if not source:
        return machine
    return f"{machine}-{hashlib.scrypt(source.encode(), salt=machine.encode(), n=2**14, r=8, p=1, dklen=4).hex()}"


def source_record(status: SourceStatus) -> dict[str, Any]:
    """The state of the source as it is published."""
    since = times(status.since)["time"]
    return {"state": status.state, "connected": status.connected, "since": since, "kind": status.kind}


def update_record(status: UpdateStatus) -> dict[str, Any]:
    """As Home Assistant's `update` entity takes it; its versions are texts, and equal ones are "up to date"."""
    latest = status.release if status.available is None else status.available
    return {
        "installed_version": str(status.release),
        "latest_version": str(latest),
        "title": "slimcam models",
        "in_progress": status.activity == "trial",
        "update_percentage": status.progress,
        "release_summary": status.error[:255] or None,
        "activity": status.activity,
        "error": status.error,
        "rollbacks": status.rollbacks,
    }


def discovery(config: MqttConfig, id: str, updated: bool = False) -> dict[str, Any]:
    """What makes Home Assistant (2024.11 or newer) know a camera: one device with five entities.

    Args:
        updated: Whether its models are updated, which is one entity more.
    """
    base = f"{config.base}/{id}"
    # A state of Home Assistant has 255 characters at most, and `None` is its unknown.
    last = "{{ value_json.last[:255] if value_json.last else None }}"
    entities: dict[str, dict[str, Any]] = {
        "people": {
            "platform": "sensor",
            "name": "People",
            "state_topic": f"{base}/state",
            "value_template": "{{ value_json.people }}",
            "state_class": "measurement",
            "icon": "mdi:account-group",
        },
        "last": {
            "platform": "sensor",
            "name": "Last recognised",
            "state_topic": f"{base}/state",
            "value_template": last,
            "icon": "mdi:account-check",
        },
        "present": {
            "platform": "binary_sensor",
            "name": "Somebody present",
            "state_topic": f"{base}/state",
            "value_template": "{{ 'ON' if value_json.present else 'OFF' }}",
            "device_class": "occupancy",
        },
        "source": {
            "platform": "binary_sensor",
            "name": "Source",
            "state_topic": f"{base}/source",
            "value_template": "{{ 'ON' if value_json.connected else 'OFF' }}",
            "json_attributes_topic": f"{base}/source",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
        },
        "event": {
            "platform": "event",
            "name": "Face",
            "state_topic": f"{base}/event",
            "event_types": list(get_args(EventKind)),
            "icon": "mdi:face-recognition",
        },
    }
    if updated:
        entities["update"] = {
            "platform": "update",
            "name": "Models",
            "state_topic": f"{base}/update",
            "entity_category": "diagnostic",
        }
    if config.image:
        entities["image"] = {
            "platform": "image",
            "name": "Last face",
            "image_topic": f"{base}/image",
            "content_type": "image/jpeg",
        }
    return {
        "device": {"identifiers": [f"slimcam_{id}"], "name": f"slimcam {id}", "manufacturer": "slimcam"},
        "origin": {"name": "slimcam"},
        "availability_topic": f"{base}/availability",
        "qos": config.qos,
        "components": {name: {"unique_id": f"slimcam_{id}_{name}", **entity} for name, entity in entities.items()},
    }


class Mqtt:
    """Publishes views to a broker, see the module.

    A thread connects and, whenever the broker is lost, connects again; then the camera's state is published again, and
    the events that happened meanwhile, `PENDING` of them at most. With QoS 1 or 2 an event that was on its way may come
    twice, before those.

    Raises:
        ValueError: the host is missing, the password lacks its user, or the machine's name makes no id.
        OSError: the file of authorities is missing or none.
    """

    def __init__(self, config: MqttConfig, source: str = "", update: Callable[[], UpdateStatus] | None = None) -> None:
        if config.host is None:
            raise ValueError("which broker? give mqtt.host")
        self._config = config
        self._broker = f"{config.host}:{config.port or (8883 if config.tls else 1883)}"
        id = config.id or own_id(source)
        self._id = id
        self._base = f"{config.base}/{id}"
        self._discovery = (f"{config.discovery}/device/{id}/config", as_json(discovery(config, id, update is not None)))
        self._update = update
        self._told_update: UpdateStatus | None = None
        self._state = State()
        self._told_state: State | None = None
        self._source: SourceStatus | None = None
        self._told_source: SourceStatus | None = None
        self._image: bytes | None = None
        self._events: deque[bytes] = deque(maxlen=PENDING)
        self._lock = threading.Lock()
        # Whether the broker has been greeted, since when it is there, and how often in a row it was soon gone again.
        self._connected = False
        self._since: float | None = None
        self._short = 0
        self._told = ""
        self._client = self._new_client(id)
        self._client.connect_async(config.host, config.port or (8883 if config.tls else 1883), config.keepalive)
        self._client.loop_start()

    def show(self, view: View) -> None:
        """See `Output`. Never waits, never raises."""
        if self._config.image:
            self._picture(view)
        self._add(view.events)

    def notice(self, notice: Notice) -> None:
        """See `Output`. Never waits, never raises."""
        self._add(notice.events, notice.source)

    def _add(self, events: Sequence[Event], source: SourceStatus | None = None) -> None:
        with self._lock:
            self._source = source or self._source
            for event in events:
                self._state = self._state.after(event)
                self._events.append(as_json({"event_type": event.kind, **event_record(event)}))
            if self._connected:
                self._flush()
                self._flush_update()

    def _picture(self, view: View) -> None:
        """Takes the face of the newest event that says who, or that nobody is known."""
        told = {event.track for event in view.events if event.kind in ("recognised", "unknown")}
        shown = [one for one in view.sightings if one.track in told and np.isfinite(one.points).all()]
        if shown:
            with self._lock:
                self._image = face_jpeg(view.frame.image, shown[-1].points)

    def close(self) -> None:
        """Tells that the camera is offline, and leaves. What cannot be sent within about two seconds is not sent."""
        with self._lock:
            connected, self._since = self._since is not None, None
            farewell = self._publish("availability", b"offline", retain=True) if connected else None
        if farewell is not None and farewell.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
            farewell.wait_for_publish(_GOODBYE)
        self._client.disconnect()
        # Its thread may be waiting for a name server or a broker that does not answer.
        stop = threading.Thread(target=self._client.loop_stop, daemon=True)
        stop.start()
        stop.join(_GOODBYE)

    def _new_client(self, id: str) -> Client:
        config = self._config
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"slimcam-{id}")
        password = os.environ.get(PASSWORD)
        if password is not None and config.user is None:
            raise ValueError(f"{PASSWORD} is set, but mqtt.user is not; give the user of that password")
        if config.user is not None:
            client.username_pw_set(config.user, password)
        if config.tls:
            if config.ca is not None and not Path(config.ca).is_file():
                raise FileNotFoundError(f"{config.ca}: there is no such file of certificate authorities (mqtt.ca)")
            try:
                client.tls_set(config.ca)
            except OSError as error:
                raise OSError(f"{config.ca}: these are no certificate authorities in PEM ({error})") from error
        client.will_set(f"{self._base}/availability", b"offline", config.qos, retain=True)
        client.reconnect_delay_set(*BACK_OFF)
        client.max_queued_messages_set(PENDING)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        return client

    def _publish(self, topic: str, payload: bytes, retain: bool = False) -> Any:
        return self._client.publish(f"{self._base}/{topic}", payload, self._config.qos, retain)

    def _flush(self) -> None:
        """Publishes the state if it is news, and the events that wait; what the client has no room for stays."""
        full = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
        if self._state is not self._told_state:
            if self._publish("state", as_json(self._state.record()), retain=True).rc == full:
                return
            self._told_state = self._state
        if self._source is not None and self._source is not self._told_source:
            if self._publish("source", as_json(source_record(self._source)), retain=True).rc == full:
                return
            self._told_source = self._source
        if self._image is not None:
            if self._publish("image", self._image, retain=True).rc == full:
                return
            self._image = None
        while self._events and self._publish("event", self._events[0]).rc != full:
            self._events.popleft()

    def _flush_update(self) -> None:
        """Publishes the state of updates if it is news."""
        if self._update is None:
            return
        status = self._update()
        # A success of the look alone is none.
        if replace(status, checked=0) != self._told_update:
            full = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
            if self._publish("update", as_json(update_record(status)), retain=True).rc != full:
                self._told_update = replace(status, checked=0)

    # Called in the client's thread.

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._tell(f"{self._broker} refuses the camera ({code}); it is tried again")
            return
        if self._short < OFTEN:
            self._tell(f"connected to {self._broker}")
        self._since = time.monotonic()
        threading.Thread(target=self._greet, args=(self._since,), daemon=True).start()

    def _greet(self, since: float) -> None:
        """Publishes all that the broker may have forgotten, in a thread of its own.

        After `_on_connect` the client sends again what was on its way when the broker was lost. What is newer is
        published after that, else an earlier state would be the one that stays: when the greeting has arrived.

        Args:
            since: The connection it is for.
        """
        told = [(f"{self._base}/availability", b"online")]
        if self._config.discovery is not None:
            told.insert(0, self._discovery)
        for message in told:
            full = True
            while full:
                with self._lock:
                    if self._since != since:
                        return
                    greeting = self._client.publish(*message, self._config.qos, retain=True)
                if full := greeting.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                    time.sleep(_FULL)
        # Fails if the connection is lost meanwhile; the next one has its own greeting.
        with suppress(RuntimeError):
            greeting.wait_for_publish()
        with self._lock:
            if self._since == since:
                self._connected = True
                self._told_state = self._told_source = self._told_update = None
                self._flush()
                self._flush_update()

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        # paho calls this while it handles the error, and tells it no other way.
        reason = sys.exc_info()[1]
        self._tell(f"{self._broker} cannot be reached ({reason or 'no reason given'}); it is tried again")

    def _on_disconnect(
        self, client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        with self._lock:
            since, self._since, self._connected = self._since, None, False
        if since is None or not code.is_failure:
            return
        self._short = self._short + 1 if time.monotonic() - since < SHORT else 0
        if self._short >= OFTEN:
            # Brokers end the older of two connections of one id, and few say so. Who comes back at once does the same
            # to the other client.
            client.reconnect_delay_set(*BACK_OFF_TAKEN)
            self._tell(
                f"{self._broker} ends each connection soon, as if another client uses this id, {self._id!r}; "
                "give each camera its own, outputs.mqtt.id=..."
            )
        else:
            client.reconnect_delay_set(*BACK_OFF)
            self._tell(f"lost {self._broker} ({code}); it is tried again")

    def _tell(self, line: str) -> None:
        """Once, however often it is tried."""
        if line != self._told:
            self._told = line
            tell(f"mqtt: {line}")
