"""Where frames come from: webcams, network streams, Raspberry Pi cameras, video files, pictures; one interface."""

from deploy.sources.opening import open_source
from deploy.sources.pictures import decode_picture, read_picture
from deploy.sources.source import Source, SourceConfig, State

__all__ = ["Source", "SourceConfig", "State", "decode_picture", "open_source", "read_picture"]
