"""Where frames come from: webcams, network streams, Raspberry Pi cameras, video files, pictures; one interface."""

from slimcam.deploy.camera.sources.opening import kind_of, open_source
from slimcam.deploy.camera.sources.source import Source, SourceConfig, SourceKind, State

__all__ = ["Source", "SourceConfig", "SourceKind", "State", "kind_of", "open_source"]
