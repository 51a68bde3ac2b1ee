"""Against a real broker, mosquitto."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from slimcam.deploy.camera.outputs.config import MqttConfig, OutputsConfig
from slimcam.deploy.camera.outputs.mqtt import PASSWORD, PENDING, Mqtt, State, discovery, own_id, source_record
from slimcam.deploy.camera.outputs.opening import open_outputs
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Event, EventKind, Frame, Identity, Sighting, SourceStatus, View

ROOT = Path(__file__).parents[4]
ADA = Identity("p1", "Ada Lovelace", 0.71, 0.3)
STRANGER = Identity(None, None, 0.2, 0.1)
BASE = "slimcam/door"
SECRET = "correct horse"


def event(kind: EventKind, track: int = 1, identity: Identity | None = None) -> Event:
    return Event(kind, track, identity, 1.5, 1.7e9)


def view(*events: Event) -> View:
    return View(Frame(np.zeros((8, 8, 3), np.uint8), 0, 1.5, time.monotonic()), (), events, {})


class Broker:
    """mosquitto at a free port, without memory of what it was told before it was killed."""

    def __init__(self, folder: Path, *options: str, anonymous: bool = True) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._file = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(anonymous).lower()}", *options]
        self._file.write_text("\n".join([*lines, "persistence false", ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self._process = subprocess.Popen([program, "-c", str(self._file)], stderr=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


class Listener:
    """Somebody else at the broker, who hears all topics."""

    def __init__(self, port: int, user: str | None = None, ca: Path | None = None) -> None:
        self.heard: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, SECRET)
        if ca:
            self._client.tls_set(str(ca))
        self._client.on_message = lambda _client, _data, message: self.heard.put(
            (message.topic, message.payload.decode(), message.retain)
        )
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.connect("localhost" if ca else "127.0.0.1", port)
        self._client.loop_start()

    def next(self, topic: str) -> str:
        """The next message of a topic; others before it are passed over."""
        end = time.monotonic() + 20
        while True:
            heard = self.heard.get(timeout=max(0.01, end - time.monotonic()))
            if heard[0] == topic:
                return heard[1]

    def state(self, **expected: Any) -> dict[str, Any]:
        """The next state that is as expected."""
        while True:
            state: dict[str, Any] = json.loads(self.next(f"{BASE}/state"))
            if expected.items() <= state.items():
                return state

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def retained(port: int, topics: int = 3, **options: Any) -> dict[str, str]:
    """What a broker remembers of the camera: in so many topics."""
    listener = Listener(port, **options)
    try:
        found: dict[str, str] = {}
        while len(found) < topics:
            topic, payload, kept = listener.heard.get(timeout=20)
            assert kept
            found[topic] = payload
        return found
    finally:
        listener.close()


@pytest.fixture(scope="module")
def mosquitto() -> None:
    if not shutil.which("mosquitto") and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is missing: apt-get install mosquitto")


@pytest.fixture
def broker(mosquitto: None, tmp_path: Path) -> Iterator[Broker]:  # noqa: ARG001
    started = Broker(tmp_path)
    started.start()
    yield started
    started.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    opened = Listener(broker.port)
    yield opened
    opened.close()


@pytest.fixture
def camera(broker: Broker, listener: Listener) -> Iterator[Mqtt]:
    opened = Mqtt(config(broker))
    assert listener.next(f"{BASE}/availability") == "online"
    yield opened
    opened.close()


def config(broker: Broker, **options: Any) -> MqttConfig:
    return MqttConfig(**{"host": "127.0.0.1", "port": broker.port, "id": "door", **options})


# Without a broker


def test_the_state_follows_the_events() -> None:
    state = State()
    assert state.record() == {"people": 0, "known": 0, "present": False, "last": None, "last_time": None}
    for one in (event("appeared"), event("appeared", 2), event("recognised", 1, ADA), event("unknown", 2, STRANGER)):
        state = state.after(one)
    told = {"people": 2, "known": 1, "present": True, "last": "Ada Lovelace", "last_time": "2023-11-14T22:13:20.000Z"}
    assert state.record() == told
    state = state.after(event("left", 1, ADA)).after(event("left", 1))
    assert state.record() == {**told, "people": 1, "known": 0}
    assert state.after(event("left", 2)).record() == {**told, "people": 0, "known": 0, "present": False}


def test_what_home_assistant_needs_is_in_the_discovery() -> None:
    message = discovery(MqttConfig(host="a", base="home/cams", qos=2), "door")
    # Device-based discovery requires these: device with identifiers, origin with a name, platform and unique_id.
    assert message["device"]["identifiers"] == ["slimcam_door"]
    assert message["origin"]["name"]
    entities = message["components"]
    assert {name: entity["platform"] for name, entity in entities.items()} == {
        "people": "sensor",
        "last": "sensor",
        "present": "binary_sensor",
        "source": "binary_sensor",
        "event": "event",
    }
    assert len({entity["unique_id"] for entity in entities.values()}) == 5
    topics = {entity["state_topic"].removeprefix("home/cams/door/") for entity in entities.values()}
    assert topics == {"state", "source", "event"}
    assert message["availability_topic"] == "home/cams/door/availability"
    assert set(entities["event"]["event_types"]) == {"appeared", "recognised", "unknown", "left"}
    assert message["qos"] == 2


def test_templates_make_states_of_the_records() -> None:
    jinja2 = pytest.importorskip("jinja2", reason="jinja2, of slimcam[pipeline], is missing")

    def seen(record: dict[str, Any]) -> dict[str, str]:
        entities = discovery(MqttConfig(host="a"), "door")["components"]
        return {
            name: jinja2.Template(entity["value_template"]).render(value_json=record)
            for name, entity in entities.items()
            if entity["state_topic"].endswith("/state")
        }

    assert seen(State().record()) == {"people": "0", "last": "None", "present": "OFF"}
    long = Identity("p", "{{ x }}" + 300 * "é", 0.9, 0.3)
    state = State().after(event("recognised", 1, long))
    assert seen(state.record()) == {"people": "1", "last": "{{ x }}" + 248 * "é", "present": "ON"}
    source = jinja2.Template(discovery(MqttConfig(host="a"), "door")["components"]["source"]["value_template"])
    for name, expected in (("connecting", "OFF"), ("connected", "ON"), ("lost", "OFF"), ("ended", "OFF")):
        assert source.render(value_json=source_record(SourceStatus(name, 1.7e9, "live"))) == expected


def test_without_a_broker_nothing_waits_and_nothing_grows(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refused
        begun = time.monotonic()
        output = Mqtt(MqttConfig(host="127.0.0.1", port=free.getsockname()[1], id="door"))
        for track in range(3 * PENDING):
            output.show(view(event("appeared", track), event("left", track)))
        assert time.monotonic() - begun < 5
        assert len(output._events) == PENDING
        assert json.loads(output._events[-1])["track"] == 3 * PENDING - 1
        assert output._client._out_messages == {}
        time.sleep(1.5)  # for a second attempt
        output.close()
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be reached ([Errno 111] Connection refused); it is tried again" in error


def test_a_host_that_has_no_address_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    output = Mqtt(MqttConfig(host="no-such-host.invalid", id="door"))
    until(lambda: "no-such-host.invalid:1883 cannot be reached" in capfd.readouterr().err)
    output.show(view(event("left")))
    output.close()


def test_a_password_needs_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, SECRET)
    with pytest.raises(ValueError, match=r"mqtt\.user is not") as error:
        Mqtt(MqttConfig(host="a"))
    assert SECRET not in str(error.value)


def test_missing_and_damaged_authorities_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pem: there is no such file"):
        Mqtt(MqttConfig(host="a", tls=True, ca=str(tmp_path / "gone.pem")))
    (tmp_path / "bad.pem").write_text("nothing")
    with pytest.raises(OSError, match=r"bad\.pem: these are no certificate authorities"):
        Mqtt(MqttConfig(host="a", tls=True, ca=str(tmp_path / "bad.pem")))


# With a broker


def test_a_broker_remembers_what_home_assistant_looks_for(broker: Broker, camera: Mqtt, listener: Listener) -> None:
    camera.show(view(event("appeared"), event("recognised", 1, ADA)))
    listener.state(last="Ada Lovelace")
    kept = retained(broker.port)
    assert json.loads(kept["homeassistant/device/door/config"]) == discovery(config(broker), "door")
    assert kept[f"{BASE}/availability"] == "online"
    assert json.loads(kept[f"{BASE}/state"])["people"] == 1
    assert set(kept) == {"homeassistant/device/door/config", f"{BASE}/availability", f"{BASE}/state"}


def test_the_state_of_updates_is_published_when_it_changes_and_kept(broker: Broker, listener: Listener) -> None:
    status = [UpdateStatus(release=7)]
    (output,) = open_outputs(OutputsConfig(mqtt=config(broker)), 30, update=lambda: status[-1])
    try:
        heard = [json.loads(listener.next(f"{BASE}/update"))]
        for checked in (1, 2):  # a look without news is none
            status.append(UpdateStatus(release=7, checked=checked))
            output.show(view())
        status.append(UpdateStatus("trial", 8, 8, 40))
        output.show(view())
        heard.append(json.loads(listener.next(f"{BASE}/update")))
        assert [(one["installed_version"], one["in_progress"]) for one in heard] == [("7", False), ("8", True)]
        kept = retained(broker.port, 4)
        assert json.loads(kept[f"{BASE}/update"]) == heard[-1]
        assert "update" in json.loads(kept["homeassistant/device/door/config"])["components"]
    finally:
        output.close()


def test_events_are_published_in_their_order(camera: Mqtt, listener: Listener) -> None:
    camera.show(view(event("appeared"), event("recognised", 1, ADA)))
    camera.show(view())
    camera.show(view(event("left", 1, ADA)))
    told = [json.loads(listener.next(f"{BASE}/event")) for _ in range(3)]
    assert [one["event_type"] for one in told] == ["appeared", "recognised", "left"]
    assert told[1] == {
        "event_type": "recognised",
        "kind": "recognised",
        "track": 1,
        "person": "p1",
        "name": "Ada Lovelace",
        "score": 0.71,
        "margin": 0.3,
        "seconds": 1.5,
        "at": 1.7e9,
        "time": "2023-11-14T22:13:20.000Z",
    }


def test_any_name_travels_as_data_and_never_in_a_topic(camera: Mqtt, listener: Listener) -> None:
    @settings(max_examples=60, deadline=None)
    @given(name=st.text(st.characters(), min_size=1, max_size=60))
    @example(name="a/b/#\n+\x00\ud800")
    def travels(name: str) -> None:
        camera.show(view(event("recognised", 1, Identity("p", name, float("nan"), 0.3))))
        while True:
            topic, payload, _ = listener.heard.get(timeout=20)
            assert topic in {f"{BASE}/event", f"{BASE}/state", "homeassistant/device/door/config"}
            if topic == f"{BASE}/event":
                break
        told = json.loads(payload)
        assert told["score"] is None
        if not any("\ud800" <= character <= "\udfff" for character in name):
            assert told["name"] == name

    travels()


def test_closing_tells_that_the_camera_is_offline(broker: Broker, listener: Listener) -> None:
    output = Mqtt(config(broker, qos=0))
    assert listener.next(f"{BASE}/availability") == "online"
    begun = time.monotonic()
    output.show(view(event("left")))
    output.close()
    assert time.monotonic() - begun < 5
    assert json.loads(listener.next(f"{BASE}/event"))["kind"] == "left"
    assert listener.next(f"{BASE}/availability") == "offline"
    assert retained(broker.port)[f"{BASE}/availability"] == "offline"


def test_the_broker_tells_that_a_killed_camera_is_offline(broker: Broker, listener: Listener) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from slimcam.deploy.camera.outputs.config import MqttConfig, OutputsConfig
from slimcam.deploy.camera.outputs.opening import open_outputs
open_outputs(OutputsConfig(mqtt=MqttConfig(host="127.0.0.1", port={broker.port}, id="door")), 30)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    try:
        assert listener.next(f"{BASE}/availability") == "online"
        os.kill(process.pid, signal.SIGKILL)
        assert listener.next(f"{BASE}/availability") == "offline"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_that_dies_and_comes_back_is_told_all_again(
    qos: int, broker: Broker, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    (output,) = open_outputs(OutputsConfig(mqtt=config(broker, qos=qos)), 30)
    assert listener.next(f"{BASE}/availability") == "online"
    output.show(view(event("appeared", 1)))
    assert json.loads(listener.next(f"{BASE}/event"))["kind"] == "appeared"
    listener.close()
    broker.kill()
    until(lambda: not output._output._connected)  # type: ignore[attr-defined]
    output.show(view(event("recognised", 1, ADA)))
    output.show(view(event("left", 1, ADA), event("appeared", 2)))
    broker.start()
    again = Listener(broker.port)
    try:
        assert json.loads(again.next("homeassistant/device/door/config"))["origin"] == {"name": "slimcam"}
        assert again.next(f"{BASE}/availability") == "online"
        assert again.state()["people"] == 1
        heard = [json.loads(again.next(f"{BASE}/event"))["kind"] for _ in range(3)]
        assert heard == ["recognised", "left", "appeared"]
        output.show(view(event("left", 2)))
        assert json.loads(again.next(f"{BASE}/event"))["track"] == 2
        output.close()
        assert again.next(f"{BASE}/availability") == "offline"
    finally:
        again.close()
    lines = capfd.readouterr().err.splitlines()
    address = f"127.0.0.1:{broker.port}"
    assert lines[0] == f"slimcam-camera: mqtt: connected to {address}"
    assert lines[1].startswith(f"slimcam-camera: mqtt: lost {address}")
    assert lines[-1] == lines[0]
    assert len(lines) <= 4


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_on_its_way_to_a_broker_that_died_comes_before_what_is_newer(qos: int, broker: Broker) -> None:
    (output,) = open_outputs(OutputsConfig(mqtt=config(broker, qos=qos)), 30)
    mqtt = output._output  # type: ignore[attr-defined]
    until(lambda: mqtt._connected)
    assert broker._process is not None
    broker._process.send_signal(signal.SIGSTOP)
    output.show(view(event("appeared", 1)))
    broker.kill()
    until(lambda: not mqtt._connected)
    output.show(view(event("left", 1)))
    broker.start()
    listener = Listener(broker.port)
    heard = [json.loads(listener.next(f"{BASE}/event"))["kind"] for _ in range(2)]
    assert heard == ["appeared", "left"]
    listener.close()
    # Not that somebody is still there.
    assert json.loads(retained(broker.port)[f"{BASE}/state"])["people"] == 0
    output.close()


def test_a_broker_that_stops_answering_never_holds_the_camera_up(broker: Broker, camera: Mqtt) -> None:
    assert broker._process is not None
    broker._process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    for track in range(2 * PENDING):
        camera.show(view(event("appeared", track), event("left", track)))
    assert len(camera._events) <= PENDING
    assert len(camera._client._out_messages) <= PENDING
    assert time.monotonic() - begun < 10
    broker._process.send_signal(signal.SIGCONT)
    camera.show(view(event("recognised", 5, ADA)))
    # All is told in the end, without another event.
    until(lambda: camera.show(view()) or not camera._events)
    assert json.loads(retained(broker.port)[f"{BASE}/state"])["last"] == "Ada Lovelace"
    # Nor is it too much for a greeting.
    broker._process.send_signal(signal.SIGSTOP)
    for track in range(PENDING):
        camera.show(view(event("appeared", track), event("left", track)))
    broker.kill()
    broker.start()
    until(lambda: camera.show(view()) or not camera._events)
    assert retained(broker.port)[f"{BASE}/availability"] == "online"
    broker._process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    camera.close()
    assert time.monotonic() - begun < 6


def test_the_face_of_the_last_event_is_a_picture_if_its_owner_chose_so(broker: Broker) -> None:
    heard: queue.Queue[bytes] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.put(message.payload)
    client.connect("127.0.0.1", broker.port)
    client.subscribe(f"{BASE}/image", 1)
    client.loop_start()
    points = np.array([(30, 30), (50, 30), (40, 40), (32, 50), (48, 50)], np.float32)
    frame = Frame(np.full((120, 160, 3), (200, 30, 30), np.uint8), 0, 1.5, time.monotonic())
    shown = View(frame, (Sighting(1, points, 0.9, (), ADA),), (event("recognised", 1, ADA),), {})
    for image in (False, True):
        camera = Mqtt(config(broker, image=image))
        until(lambda camera=camera: camera._connected)
        camera.show(shown)
        if image:
            picture = cv2.imdecode(np.frombuffer(heard.get(timeout=10), np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape[0] == picture.shape[1] or min(picture.shape[:2]) > 40
            np.testing.assert_allclose(picture.mean(axis=(0, 1)), (30, 30, 200), atol=4)
        camera.close()
        assert heard.empty()
    client.disconnect()
    client.loop_stop()
    components = discovery(MqttConfig(host="a", image=True), "door")["components"]
    assert components["image"]["image_topic"] == "slimcam/door/image"
    assert "image" not in discovery(MqttConfig(host="a"), "door")["components"]


def test_cameras_of_one_machine_have_ids_of_their_own(broker: Broker, listener: Listener) -> None:
    sources = ("0", "rtsp://user:secret@nvr/1?channel=1", "rtsp://user:secret@nvr/1?channel=2")
    cameras = [Mqtt(config(broker, id=None), source) for source in sources]
    ids = [own_id(source) for source in sources]
    assert len(set(ids)) == 3
    assert ids == [own_id(source) for source in sources]  # Home Assistant must know them again
    assert "secret" not in "".join(ids)
    for id in ids:
        listener_topic = f"slimcam/{id}/availability"
        assert listener.next(listener_topic) == "online"
    for camera in cameras:
        camera.close()


def test_two_clients_of_one_id_are_told_and_do_not_throw_each_other_out(
    broker: Broker, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    first = Mqtt(config(broker))
    assert listener.next(f"{BASE}/availability") == "online"
    second = Mqtt(config(broker))
    said = ""
    deadline = time.monotonic() + 20
    while "another client" not in said:
        assert time.monotonic() < deadline
        said += capfd.readouterr().err
        time.sleep(0.05)
    assert "another client uses this id, 'door'" in said
    before = listener.heard.qsize()
    time.sleep(3)
    assert listener.heard.qsize() - before <= 6  # one of them is left alone for a while
    first.close()
    second.close()


def _readable_to_all(file: Path) -> None:
    """The broker gives up being root, and then has to read it."""
    temporary = Path(tempfile.gettempdir())
    for path in (file, *(folder for folder in file.parents if temporary in folder.parents)):
        path.chmod(path.stat().st_mode | 0o055)


def test_a_password_opens_a_broker(
    mosquitto: None,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "ada", SECRET], check=True)
    # Started by root, mosquitto gives up its rights: the file and the way to it must be open to it.
    _readable_to_all(passwords)
    broker = Broker(tmp_path, f"password_file {passwords}", anonymous=False)
    broker.start()
    try:
        monkeypatch.setenv(PASSWORD, "wrong " + SECRET)
        refused = Mqtt(config(broker, user="ada"))
        told: list[str] = []
        until(lambda: told.append(capfd.readouterr().err) or "refuses the camera (Not authorized)" in told[-1])
        refused.show(view(event("left")))
        refused.close()
        monkeypatch.setenv(PASSWORD, SECRET)
        listener = Listener(broker.port, user="ada")
        camera = Mqtt(config(broker, user="ada"))
        assert listener.next(f"{BASE}/availability") == "online"
        camera.close()
        listener.close()
        assert SECRET not in "".join(told) + capfd.readouterr().err
    finally:
        broker.kill()


def test_tls_is_checked(mosquitto: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    _readable_to_all(certificate)
    _readable_to_all(key)
    broker = Broker(tmp_path, f"certfile {certificate}", f"keyfile {key}")
    broker.start()
    try:
        listener = Listener(broker.port, ca=certificate)
        stranger = Mqtt(config(broker, host="localhost", tls=True))
        until(lambda: "certificate verify failed" in capfd.readouterr().err)
        stranger.close()
        camera = Mqtt(config(broker, host="localhost", tls=True, ca=str(certificate)))
        assert listener.next(f"{BASE}/availability") == "online"
        camera.close()
        listener.close()
    finally:
        broker.kill()


def write_certificate(certificate: Path, key: Path) -> None:
    """Of `localhost`, signed by itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    ssl.create_default_context(cafile=str(certificate))
