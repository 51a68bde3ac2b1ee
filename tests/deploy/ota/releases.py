"""Repositories, bundles and a web server for the tests of updates; without TensorFlow, so that they start quickly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER, Bundle, load_bundle, write_bundle
from slimcam.deploy.inference.model import Model
from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.publisher.keys import Keyring
from slimcam.deploy.ota.publisher.repository import Repository

GATE = {"name": "size_mb", "figure": 1.5, "bound": 2.0, "passed": True}


def new_repository(folder: Path) -> Repository:
    """With keys beside it; the passphrase comes from the environment."""
    repository = Repository(folder / "public", Keyring(folder / "keys"))
    repository.create({})
    return repository


def variant(folder: Path, out: Path, *, noise: float = 0.0, seed: int = 0, **changes: Any) -> Bundle:
    """A bundle that differs from another in its model's weights and golden vectors, or in what else is given.

    Args:
        noise: share of the weights that are replaced by random ones; 0 keeps the model.
    """
    bundle = load_bundle(folder)
    model = _with_noise(bundle.model.read_bytes(), noise, seed) if noise else bundle.model.read_bytes()
    facts: dict[str, Any] = {
        "name": f"{bundle.name}-{seed}",
        "task": bundle.task,
        "model": model,
        "input": bundle.input,
        "golden_input": bundle.golden_input,
        "golden_output": Model(model, bundle.input).outputs(bundle.golden_input),
        "provenance": {"noise": noise, "seed": seed},
        "license": bundle.license,
        "card": f"# variant {seed}\n",
        "thresholds": bundle.thresholds,
        "gates": bundle.gates or [GATE],
    }
    return write_bundle(out, **{**facts, **changes})


def publish(repository: Repository, recognizer: Path = RECOGNIZER, detector: Path = DETECTOR, **options: Any) -> int:
    """A release for everybody."""
    return repository.publish(detector, recognizer, **{"rings": {"stable": 100}, "slowdown": 10_000, **options}).number


def _with_noise(model: bytes, share: float, seed: int) -> bytes:
    content, rng = bytearray(model), np.random.default_rng(seed)
    graph = schema.Model.GetRootAs(content, 0)
    # Weights are int8 constants; biases and the like are wider and stay.
    for number in range(graph.Subgraphs(0).TensorsLength()):
        tensor = graph.Subgraphs(0).Tensors(number)
        data = graph.Buffers(tensor.Buffer()).DataAsNumpy()
        if tensor.Type() == schema.TensorType.INT8 and isinstance(data, np.ndarray) and data.size:
            chosen = rng.random(data.size) < share
            data[chosen] = rng.integers(0, 256, int(chosen.sum())).astype(np.uint8)
    return bytes(content)


Answer = Callable[[SimpleHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """A static server whose answers to some paths a test replaces.

    Attributes:
        answers: by path, such as `/metadata/timestamp.json`.
        asked: paths, in their order.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            super().do_GET()
        else:
            answer(self)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def content(data: bytes) -> Answer:
    """Answers with other bytes."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def settings(repository: Repository, url: str, folder: Path, **changes: Any) -> Settings:
    """Of a device without a gallery."""
    root = folder.parent / f"{folder.name}-root.json"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        root.write_bytes(repository.root_bytes(1))
    gallery = {"gallery": str(folder / "gallery.db"), "key": str(folder.parent / "key/gallery.key")}
    return Settings(**{"url": url, "root": str(root), "folder": str(folder), "device": "door", **gallery, **changes})


def crashing(folder: Path, out: Path) -> Bundle:
    """A bundle whose model ends the process that loads it: XNNPACK aborts on a sum with a negative scale."""
    bundle = load_bundle(folder)
    content = bytearray(bundle.model.read_bytes())
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(number) for number in range(graph.OperatorsLength())]
    kinds = [model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() for operator in operators]
    addition = operators[kinds.index(schema.BuiltinOperator.ADD)]
    scale = graph.Tensors(addition.Outputs(0)).Quantization().ScaleAsNumpy()
    scale[:] = -scale
    return variant(folder, out, model=bytes(content), golden_output=bundle.golden_output)
