"""Who may ask the web page for what: hosts, origins, tokens, and how every refusal reads.

Against DNS rebinding a page of the loopback answers to the loopback's names alone. Against forged requests of other
sites, the API wants a request that changes something to carry a header that no form can send and, like all of the
API, not to come from another origin (https://cheatsheetseries.owasp.org, Cross-Site Request Forgery Prevention).
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NoReturn

from aiohttp import web

from slimcam.deploy.camera.web.config import WebConfig, access_token, is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MARK = "X-Slimcam"
"""Header of requests that change something; any value."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@]+)(?::([0-9]{1,5}))?")

_log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Answers a request with a status and one line."""

    def __init__(self, status: int, reason: str, details: dict[str, Any] | None = None, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers
        self.details = details or {}


def refuse(status: int, reason: str, details: dict[str, Any] | None = None, **headers: str) -> NoReturn:
    raise Refusal(status, reason, details, **headers)


def error_response(status: int, reason: str, details: dict[str, Any] | None = None) -> web.Response:
    """A refusal as JSON, `{"error": "one line"}`, and what else there is to say."""
    record = {"error": " ".join(reason.split()), **(details or {})}
    return web.Response(status=status, text=json.dumps(record), content_type="application/json")


class Failures:
    """Wrong tokens of each address: after `limit` within `seconds`, that address has to wait.

    Args:
        addresses: Most addresses that are remembered, the newest ones.
    """

    def __init__(self, limit: int = 10, seconds: float = 60.0, addresses: int = 1024) -> None:
        self.limit, self.seconds, self.addresses = limit, seconds, addresses
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Seconds until the address may try again; 0 for at once."""
        times = self._times.get(address, deque())
        return max(0.0, times[0] + self.seconds - now) if len(times) == self.limit else 0.0

    def add(self, address: str, now: float) -> None:
        self._times.setdefault(address, deque(maxlen=self.limit)).append(now)
        self._times.move_to_end(address)
        if len(self._times) > self.addresses:
            self._times.popitem(last=False)


class Guard:
    """Decides about requests.

    A browser that has sent the token gets a cookie with a secret of this run, never the token itself.
    """

    def __init__(self, config: WebConfig) -> None:
        self.token = access_token(config)
        self._hosts = {"localhost", "127.0.0.1", "[::1]", f"[{config.host}]" if ":" in config.host else config.host}
        self._any_host = not is_loopback(config.host)
        self._session = secrets.token_urlsafe(32)
        self._failures = Failures()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks a request, and makes one line of whatever is wrong with it."""
        try:
            self.check(request)
            return await handler(request)
        except Refusal as refusal:
            response = error_response(refusal.status, refusal.reason, refusal.details)
            response.headers.update({name.replace("_", "-"): value for name, value in refusal.headers.items()})
            return response
        except web.HTTPException as refusal:
            response = error_response(refusal.status, refusal.reason)
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
            return response

    def check(self, request: web.Request) -> None:
        """Refuses requests to a wrong host, and to the API those from other origins and without token."""
        host = _only(request, "Host")
        if host is None or not self._knows(host):
            refuse(403, "this page is not served under that host name; open the address that the camera printed")
        if not request.path.startswith("/api/"):
            return
        origin = _only(request, "Origin")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") or (
            "Origin" in request.headers and origin not in (f"http://{host}", f"https://{host}")
        ):
            refuse(403, "requests of other sites are refused")
        if request.method not in ("GET", "HEAD") and MARK not in request.headers:
            refuse(403, f"requests that change something need a header {MARK}")
        if request.path != "/api/login":
            self._authorise(request)

    def login(self, request: web.Request, token: str) -> web.Response:
        """The cookie for a browser that knows the token."""
        self._check_token(request, token)
        response = web.Response(status=204)
        response.set_cookie(_cookie(request), self._session, path="/", httponly=True, samesite="Strict")
        return response

    def _knows(self, host: str) -> bool:
        if self._any_host:
            return True
        # With any port, for a tunnel may begin at another one; DNS rebinding needs the name of another machine.
        found = _HOST.fullmatch(host.lower())
        return found is not None and found[1] in self._hosts

    def _authorise(self, request: web.Request) -> None:
        if self.token is None or _same(request.cookies.get(_cookie(request), ""), self._session):
            return
        scheme, _, given = (_only(request, "Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            refuse(401, "a token is needed; log in on the page, or send it as Authorization: Bearer")
        self._check_token(request, given.strip())

    def _check_token(self, request: web.Request, given: str) -> None:
        if self.token is None:
            refuse(404, "this page has no token")
        address, now = request.remote or "", time.monotonic()
        if wait := self._failures.wait(address, now):
            # Even the right token, or guessing could go on.
            refuse(429, "too many wrong tokens; wait a minute", Retry_After=str(int(wait) + 1))
        if not _same(given, self.token):
            self._failures.add(address, now)
            refuse(401, "that is not the token")


class Connection(web.RequestHandler):
    """A connection whose malformed requests end as one line, and never in a log: there may be a token in them.

    Args:
        ended: Called once, when the connection is closed.
    """

    __slots__ = ("_ended",)

    def __init__(self, server: web.Server, ended: Callable[[], None], **options: Any) -> None:
        super().__init__(server, **options)
        self._ended = ended

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._ended()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - may repeat the request
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("a request to the web page failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        reason = "malformed request" if status == 400 else HTTPStatus(status).phrase
        response = error_response(status, reason)
        response.headers.update(HEADERS)
        response.force_close()
        return response


async def add_headers(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """For `on_response_prepare`."""
    response.headers.update(HEADERS)


def _only(request: web.Request, name: str) -> str | None:
    """A header that may be there once."""
    values = request.headers.getall(name, [])
    return values[0] if len(values) == 1 else None


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def _cookie(request: web.Request) -> str:
    """Cookies know no ports: two cameras on one machine, or at two ends of tunnels to it, must not share one.

    So the port is the one that the browser sees.
    """
    host = _HOST.fullmatch(_only(request, "Host") or "")
    return f"slimcam-{(host and host[2]) or 80}"
