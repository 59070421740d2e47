"""One GET of a file_url into a DocumentWriter, with every address checked where the socket is made.

Between a look-up and the connect a name may change its address (DNS rebinding), and literal addresses never
see a resolver; so the check that counts is in the connector's socket factory, which gets the final address of
every attempt. The resolver's check comes before it so that a name with one forbidden address is refused
whichever address would be tried first. Redirects are followed by hand and each hop is checked anew; one from
https to http is refused, since it gives up what the client asked for. The proxies of the environment are not used.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from producer_api.addresses import Allowed, as_asked, check_url, why_refused
from producer_api.document import Document, DocumentWriter
from schemas.errors import DocfleetError, ErrorCode

_log = logging.getLogger(__name__)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: Answers that another try may change; besides these, 5xx.
_PASSING: Final = frozenset({408, 425, 429})
_CONNECT_SECONDS: Final = 10.0
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "docfleet"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of one try."""

    total_seconds: float
    idle_seconds: float
    max_redirects: int
    max_bytes: int


class NoAnswer(Exception):
    """The file could not be fetched now; another try may do better. The text is a sentence for the client."""


class _AddressRefused(OSError):
    """An address that must not be connected to; the text, for the client, says why."""


async def fetch(url: str, writer: DocumentWriter, limits: FetchLimits, allowed: Allowed) -> Document:
    """Return the document whose bytes have gone into `writer`, which has ended.

    Raises:
        NoAnswer: no connection, a 5xx, a silence, a broken transfer.
        DocfleetError: URL_NOT_ALLOWED, URL_UNREACHABLE, URL_TOO_LARGE, EMPTY_FILE, UNSUPPORTED_FORMAT for good;
            STORAGE_UNAVAILABLE.

    """
    try:
        async with asyncio.timeout(limits.total_seconds):
            return await _follow(url, writer, limits, allowed)
    except TimeoutError as error:
        raise NoAnswer(f"file_url could not be fetched: it took more than {limits.total_seconds:g} s.") from error


async def _follow(url: str, writer: DocumentWriter, limits: FetchLimits, allowed: Allowed) -> Document:
    for _ in range(limits.max_redirects + 1):
        check_url(url, allowed)
        async with _get(url, limits, allowed) as response:
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return await _take(response, writer, limits)
            target = urljoin(url, response.headers["Location"])
        if url.lower().startswith("https:") and not target.lower().startswith("https:"):
            raise DocfleetError(
                ErrorCode.URL_NOT_ALLOWED, "file_url is not allowed: it redirects from https to something else."
            )
        url = target
    raise DocfleetError(
        ErrorCode.URL_UNREACHABLE,
        f"file_url could not be fetched: it redirects more than {limits.max_redirects} times.",
    )


@asynccontextmanager
async def _get(url: str, limits: FetchLimits, allowed: Allowed) -> AsyncIterator[aiohttp.ClientResponse]:
    target = as_asked(url)  # which check_url has seen to be one
    refused: list[_AddressRefused] = []
    is_any_allowed = allowed.has_host(target.raw_host or "")
    check = _AddressCheck(Allowed() if is_any_allowed else allowed, refused, is_any_allowed=is_any_allowed)
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(check), socket_factory=check.open_socket, use_dns_cache=False, force_close=True
    )
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=limits.idle_seconds)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            ) as session,
            session.get(target, allow_redirects=False) as response,
        ):
            yield response
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if refused:
            raise DocfleetError(ErrorCode.URL_NOT_ALLOWED, f"file_url is not allowed: {refused[0]}.") from error
        if isinstance(error, (aiohttp.InvalidURL, ValueError)):
            raise DocfleetError(ErrorCode.URL_NOT_ALLOWED, "file_url is not allowed: it is no valid URL.") from error
        raise NoAnswer(f"file_url could not be fetched: {_reason(error)}.") from error


async def _take(response: aiohttp.ClientResponse, writer: DocumentWriter, limits: FetchLimits) -> Document:
    if response.status != HTTPStatus.OK:
        sentence = f"file_url could not be fetched: its server answered {_status(response.status)}."
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status in _PASSING:
            raise NoAnswer(sentence)
        raise DocfleetError(ErrorCode.URL_UNREACHABLE, sentence)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DocfleetError(
            ErrorCode.URL_UNREACHABLE,
            "file_url could not be fetched: its server compresses what was asked for plainly.",
        )
    too_large = DocfleetError(ErrorCode.URL_TOO_LARGE, f"The file at file_url is larger than {limits.max_bytes} bytes.")
    if (response.content_length or 0) > limits.max_bytes:
        raise too_large
    try:
        async for piece in response.content.iter_any():
            await writer.write(piece)
        return await writer.end()
    except DocfleetError as error:
        if error.code is ErrorCode.FILE_TOO_LARGE:
            raise too_large from error
        if error.code in (ErrorCode.EMPTY_FILE, ErrorCode.UNSUPPORTED_FORMAT):
            raise DocfleetError(error.code, error.sentence.replace("The file is", "The file at file_url is")) from error
        raise


class _AddressCheck:
    """Holds every address of one hop against the rules and remembers what was refused."""

    def __init__(self, allowed: Allowed, refused: list[_AddressRefused], *, is_any_allowed: bool) -> None:
        self._allowed = allowed
        self._refused = refused
        self._is_any_allowed = is_any_allowed

    def check(self, host: str, text: str) -> None:
        """Return when the address may be connected to; _AddressRefused else."""
        if self._is_any_allowed:
            return
        why = why_refused(ipaddress.ip_address(text), self._allowed)
        if why is not None:
            sentence = f"{text} is {why}"
            if host not in ("", text):  # what a name leads to in here is not for whoever asks
                _log.info("%s leads to an address that is refused: %s", host, sentence, extra={"action": "refuse"})
                sentence = f"{host} leads to an address that is not public"
            error = _AddressRefused(sentence)
            self._refused.append(error)
            raise error

    def open_socket(self, address: Any) -> socket.socket:
        """Return a socket for an address (family, type, protocol, name, sockaddr) that has been checked."""
        family, kind, protocol, _name, sockaddr = address
        self.check("", str(sockaddr[0]))
        return socket.socket(family=family, type=kind, proto=protocol)


class _CheckedResolver(ThreadedResolver):
    def __init__(self, check: _AddressCheck) -> None:
        super().__init__()
        self._check = check

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for result in found:
            self._check.check(host, result["host"])
        return found


def _status(number: int) -> str:
    try:
        return f"{number} {HTTPStatus(number).phrase}"
    except ValueError:
        return str(number)


def _reason(error: Exception) -> str:
    """Return what happened, in words that tell nothing about the inside of this system."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name does not resolve"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate or handshake is not accepted"
    if isinstance(error, (aiohttp.ServerTimeoutError, TimeoutError)):
        return "its server did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "its server does not take a connection"
    return "the transfer broke off"
