"""Where frames come from: webcams, network streams, Raspberry Pi cameras, video files, pictures; one interface."""

from deploy.camera.sources.opening import open_source
from deploy.camera.sources.source import Source, SourceConfig, State

__all__ = ["Source", "SourceConfig", "State", "open_source"]
