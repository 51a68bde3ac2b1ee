"""Downloads for the TUF client: no faster than allowed, and given up where the server is too slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tuf.api.exceptions import SlowRetrievalError
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

CHUNK = 16 * 1024
"""Bytes that are asked for at once, so that a limit is kept smoothly."""

TIMEOUT = 20
"""Seconds without a byte."""

PATIENCE = 30.0
"""Seconds before the mean speed is looked at."""

SLOWEST = 512
"""Bytes a second. The timeout of a socket alone lets a server drip a byte every few seconds for ever."""


class LimitedFetcher(Urllib3Fetcher):
    """python-tuf's fetcher with a highest and a lowest mean speed.

    Args:
        limit: Most bytes a second, over all downloads; None for no limit.
        patience: Seconds before a download's mean speed is looked at.
        progress: Takes how many bytes came.
    """

    def __init__(
        self,
        limit: int | None = None,
        patience: float = PATIENCE,
        timeout: int = TIMEOUT,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(socket_timeout=timeout, chunk_size=CHUNK, app_user_agent="slimcam")
        self._limit, self._patience, self._progress = limit, patience, progress
        self.received = 0
        self._free = 0.0  # when the limit lets the next bytes through

    def _fetch(self, url: str) -> Iterator[bytes]:
        begin = time.monotonic()
        return self._paced(super()._fetch(url), begin)

    def _paced(self, chunks: Iterator[bytes], begin: float) -> Iterator[bytes]:
        waited, received = 0.0, 0
        for chunk in chunks:
            received += len(chunk)
            self.received += len(chunk)
            now = time.monotonic()
            spent = now - begin - waited  # the time of the server alone
            if spent > self._patience and received < SLOWEST * spent:
                raise SlowRetrievalError(f"{received} bytes in {spent:.0f} s, at least {SLOWEST} a second are expected")
            if self._progress is not None:
                self._progress(len(chunk))
            yield chunk
            if self._limit is not None:
                self._free = max(self._free, now) + len(chunk) / self._limit
                pause = max(self._free - time.monotonic(), 0.0)
                waited += pause
                time.sleep(pause)
