"""What lies behind an http address: a stream, a picture that is asked for again and again, or a file."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from slimcam.deploy.camera.sources.capture import Capture
from slimcam.deploy.camera.sources.live import StreamEnd
from slimcam.deploy.vision.image_files import Image, decode_picture

LARGEST_SNAPSHOT = 32 * 2**20
"""Bytes of a picture that a camera sends."""

_SNAPSHOTS_A_SECOND = 1.0
_PLAYLISTS = ("mpegurl", "dash+xml", "sdp")


class Address:
    """An http or https address, and the user and password in it, for basic and digest authentication.

    Certificates are not checked, as FFmpeg does not: cameras sign theirs themselves.

    Args:
        url: As it was given.
        name: Without credentials, for errors.
        timeout: Seconds without an answer.
    """

    def __init__(self, url: str, name: str, timeout: float) -> None:
        self.name, self._timeout = name, timeout
        parts = urlsplit(url)
        authority = parts.netloc.rpartition("@")[2]
        self._url = quote(urlunsplit(parts._replace(netloc=authority, fragment="")), safe="%/:=&?~#+!$,;'@()*[]")
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            passwords.add_password(None, self._url, unquote(parts.username), unquote(parts.password or ""))
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
        )

    def ask(self) -> str:
        """What is there: `picture`, `file` or `stream`; the last, too, where the server says nothing of it."""
        with self._open() as answer:
            kind = answer.headers.get_content_type()
            if kind.startswith("image/"):
                return "picture"
            whole = answer.headers.get("Content-Length") is not None and kind != "multipart/x-mixed-replace"
            return "file" if whole and not any(part in kind for part in _PLAYLISTS) else "stream"

    def fetch(self) -> bytes:
        """The content of the address.

        Raises:
            OSError: it is not reached, or refuses.
            ValueError: there is too much of it.
        """
        with self._open() as answer:
            content: bytes = answer.read(LARGEST_SNAPSHOT + 1)
        if len(content) > LARGEST_SNAPSHOT:
            raise ValueError(f"{self.name}: a picture of more than {LARGEST_SNAPSHOT >> 20} MiB")
        return content

    def _open(self) -> http.client.HTTPResponse:
        try:
            found: http.client.HTTPResponse = self._opener.open(self._url, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"{self.name}: the server answers {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError):
            # Its text may hold the address with its password.
            raise OSError(f"{self.name}: not reached, or no video that OpenCV can read") from None
        return found


class Snapshots:
    """A picture that a camera takes each time that it is asked.

    Args:
        address: Of the picture.
        fps: Times a second that it is asked for, 0 for once.
    """

    def __init__(self, address: Address, fps: float) -> None:
        self._address, self.fps = address, fps or _SNAPSHOTS_A_SECOND
        self._due = time.monotonic()

    def read(self) -> Image | None:
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + 1 / self.fps, time.monotonic())
        try:
            content = self._address.fetch()
        except http.client.HTTPException:
            return None
        return decode_picture(content, self._address.name)

    def close(self) -> None: ...


class RemoteFile:
    """A video file of a server, played at its own speed; it ends where the file does."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._begin: float | None = None
        self._seconds = 0.0

    @property
    def fps(self) -> float:
        return self._capture.fps

    def read(self) -> Image | None:
        image = self._capture.read()
        if image is None:
            if self._seconds >= self._capture.seconds - 1:
                raise StreamEnd
            return None
        self._seconds = self._capture.position
        if self._begin is None:
            self._begin = time.monotonic() - self._seconds
        time.sleep(min(max(0.0, self._begin + self._seconds - time.monotonic()), 1.0))
        return image

    def close(self) -> None:
        self._capture.close()
