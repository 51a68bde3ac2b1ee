"""Where the web page is served, and to whom; apart from the server: without a page no web library is loaded."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field

TOKEN_VARIABLE = "SLIMCAM_WEB_TOKEN"
TOKEN_LENGTH = 16
"""Fewer characters could be guessed."""


@dataclass
class WebConfig:
    """The web page.

    The token is best given in the environment, `SLIMCAM_WEB_TOKEN`, where lists of processes do not show it. Pages are
    served without encryption; across a network that is not trusted, go through an SSH tunnel to the same port.

    Attributes:
        port: Port to listen at; 0 is any free one, and `None` is no page.
        host: Address to listen at. Any other than this machine's loopback needs a token.
        token: Secret of the page: whoever knows it may see the page and change the gallery; `None` is that of
            the environment, if any.
        fps: Most pictures a second of the live view.
        width: Width of the live view, pixels; a smaller frame is shown as it is.
        quality: JPEG quality of the live view, 1 to 100.
        open: Whether to show the page in this machine's browser.
    """

    port: int | None = 8765
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    fps: float = 10.0
    width: int = 640
    quality: int = 80
    open: bool = False

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ValueError(f"web.port is from 0 to 65535, or null for no page; got {self.port}")
        if not re.fullmatch(r"[\w.:%-]+", self.host):
            raise ValueError("web.host is an address of this machine such as 127.0.0.1, without http:// and port")
        if not 0 < self.fps <= 60:
            raise ValueError(f"web.fps is above 0, up to 60; got {self.fps}")
        if not 64 <= self.width <= 4096:
            raise ValueError(f"web.width is from 64 to 4096 pixels; got {self.width}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"web.quality is from 1 to 100; got {self.quality}")
        if self.port is not None:
            access_token(self)


def access_token(config: WebConfig) -> str | None:
    """The token that a client must know; `None` where anybody on this machine may see the page.

    Raises:
        ValueError: there is none and the page could be reached from elsewhere, or it is weak. It is not repeated.
    """
    token = config.token if config.token is not None else os.environ.get(TOKEN_VARIABLE) or None
    if token is None:
        if not is_loopback(config.host):
            raise ValueError(
                f"web.host={config.host} lets other machines in: set a token in {TOKEN_VARIABLE}, "
                f"{TOKEN_LENGTH} characters or more, or keep web.host=127.0.0.1"
            )
    elif not re.fullmatch(rf"[!-~]{{{TOKEN_LENGTH},200}}", token):
        raise ValueError(f"the token of the web page must have {TOKEN_LENGTH} to 200 visible ASCII characters")
    return token


def is_loopback(host: str) -> bool:
    """Whether an address to listen at can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
