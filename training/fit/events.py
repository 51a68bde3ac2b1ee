"""Events for TensorBoard: scalars by tag and step."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def event_writer(folder: Path | None) -> Any:
    """A writer of a file of events in a folder; None without a folder, or where TensorBoard is not installed."""
    if folder is None:
        return None
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError:
        logger.info("TensorBoard is not installed: the history is written, but no events for it")
        return None
    return EventFileWriter(str(folder))


def write_event(writer: Any, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars of one step by their tags, if there is a writer."""
    if writer is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def write_events(folder: Path, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars of one step to a file of their own, which TensorBoard shows with the others of the folder."""
    writer = event_writer(folder)
    write_event(writer, step, values)
    if writer is not None:
        writer.close()
