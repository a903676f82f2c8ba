"""One HTTP request with manners: limited waiting, polite retries, redirects only to where it is safe.

`requests` alone waits for the name service without a limit, tries the addresses of a host one after the
other, each for the whole time-out, and follows a redirect to anywhere. Here a host that does not answer is
noticed within seconds, every hop is checked, and what a request may cost is one frozen value, `Patience`.
"""

from __future__ import annotations

import email.utils
import ipaddress
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.utils import get_environ_proxies, requote_uri, select_proxy

from yourbert.core.errors import cleaned, fail, quoted
from yourbert.core.filenames import shown

LOGGER = logging.getLogger("yourbert")
MOST_HOPS = 5
MOST_ADDRESSES = 8
RETRIED_STATUSES = {408, 425, 429}
UNREACHED = (requests.exceptions.SSLError, requests.exceptions.ProxyError, requests.exceptions.ConnectTimeout)
OWN_FIX = "use the file's own address"
ACCOUNT_FIX = ", or whether it needs an account"
OFFLINE_FIX = "check the network and run again"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a download may wait, in seconds where nothing else is said.

    connect: for the name and a connection together. idle: without a single byte. tries: requests for one
    file. first_wait: before the second try, doubling up to longest_wait; a server that asks (Retry-After) for
    longer is given up. unreachable: in all, for a host that no connection reaches. window, least_rate: a
    connection that brings fewer than least_rate bytes a second over a window is dropped. busy: for another
    process that fetches the same file.
    """

    connect: float = 5.0
    idle: float = 20.0
    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 20.0
    unreachable: float = 6.0
    window: float = 15.0
    least_rate: float = 1024.0
    busy: float = 3600.0


USUAL = Patience()


class Trouble(Exception):
    """A request failed in a way that another try may mend.

    wait: seconds the server asked for. reached: False where no connection came about at all.
    """

    def __init__(self, code: str, reason: str, *, wait: float = 0.0, reached: bool = True) -> None:
        super().__init__(reason)
        self.code, self.wait, self.reached = code, wait, reached


def persist(act: Callable[[], T], url: str, patience: Patience) -> T:
    """Calls `act` until it raises no `Trouble`, with doubling pauses and one line per retry.

    Raises UserError with the trouble's code when the tries, or the time for a silent host, are used up.
    """
    started, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            return act()
        except Trouble as trouble:
            pause = max(trouble.wait, min(patience.longest_wait, patience.first_wait * 2 ** (attempt - 1)))
            late = time.monotonic() - started + pause + patience.connect > patience.unreachable
            if attempt >= patience.tries or pause > patience.longest_wait or (late and not trouble.reached):
                asked = f" (the server asks to wait {trouble.wait:.0f} s)" if trouble.wait else ""
                tries = f" ({attempt} tries)" if attempt > 1 else ""
                fail(trouble.code, f"{trouble}{tries}{asked}", where=shown(url), fix=OFFLINE_FIX)
            counted = f"try {attempt + 1} of {patience.tries} in {pause:.1f} s"
            LOGGER.info("%s: %s; %s", shown(url), trouble, counted)
            time.sleep(pause)


class Caller:
    """Makes the requests for one file and remembers which hosts have answered.

    secrets: headers (an `Authorization`) that go to the first address alone, never to where it redirects.
    """

    def __init__(self, patience: Patience, secrets: Mapping[str, str] | None = None) -> None:
        self.patience = patience
        self.secrets = dict(secrets or {})
        self._session = requests.Session()
        self._met: set[tuple[str, int]] = set()

    def close(self) -> None:
        self._session.close()

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], *, stay: bool = False
    ) -> tuple[requests.Response, dict[str, str]]:
        """The open response at the end of the redirects, and the headers of all hops (the first one's win).

        stay: stops at a redirect to another host and gives that response.
        Raises UserError (W07) for a hop that is not allowed, Trouble when no response came.
        """
        seen: list[str] = []
        noted: dict[str, str] = {}
        while True:
            seen.append(url)
            response = self._call(method, url, headers, first=seen[0])
            noted = {k.lower(): v for k, v in response.headers.items()} | noted
            location = self._session.get_redirect_target(response)
            if location is None:
                return response, noted
            hop = next_hop(seen, location)
            if stay and _origin(hop) != _origin(url):
                return response, noted
            response.close()
            url = hop

    def _call(self, method: str, url: str, headers: Mapping[str, str], first: str) -> requests.Response:
        own = self.secrets if _origin(url) == _origin(first) else {}
        sent = {"User-Agent": "yourbert", "Accept-Encoding": "identity", **headers, **own}
        self._reach(url, redirected=url != first)
        try:
            waits = (self.patience.connect, self.patience.idle)
            return self._session.request(method, url, headers=sent, stream=True, allow_redirects=False, timeout=waits)
        except UNREACHED as error:
            raise Trouble("W03", f"no connection: {_reason(error)}", reached=False) from None
        except requests.exceptions.Timeout:
            raise Trouble("W06", f"no answer for {self.patience.idle:g} s") from None
        except requests.exceptions.ConnectionError as error:
            raise Trouble("W03", f"the connection broke: {_reason(error)}") from None
        except (requests.exceptions.RequestException, UnicodeError, ValueError) as error:
            fail("W01", f"not an address that can be fetched: {quoted(str(error))}", where=shown(url))

    def _reach(self, url: str, redirected: bool) -> None:
        """Sees that the host has a name and takes connections, and is not link-local after a redirect."""
        host, port = _host(url)
        if (host, port) in self._met:
            return
        if select_proxy(url, get_environ_proxies(url)):
            refuse_local([host] if redirected else [], url)
            return
        deadline = time.monotonic() + self.patience.connect
        addresses = _addresses(host, port, self.patience.connect)
        refuse_local(addresses if redirected else [], url)
        _greet(addresses, port, max(0.1, deadline - time.monotonic()))
        self._met.add((host, port))


def next_hop(seen: list[str], location: str) -> str:
    """Where a redirect from the last of `seen` leads.

    Raises UserError (W07) unless it is http or https, not http after https, without a user name, not seen
    before, and within MOST_HOPS.
    """
    here = seen[-1]
    try:
        there = requote_uri(urljoin(here, location))
        parts = urlsplit(there)
        _ = parts.port  # an impossible port is noticed only here
    except (ValueError, requests.exceptions.InvalidURL):
        fail("W07", f"redirects to {quoted(location)}, which is no address", where=shown(here))
    refusals = {
        "only http and https are followed": parts.scheme not in ("http", "https") or not parts.hostname,
        "that would leave the encrypted connection": urlsplit(here).scheme == "https" and parts.scheme != "https",
        "an address with a user name is not followed": "@" in parts.netloc,
        "which is a loop": there in seen,
        f"more than {MOST_HOPS} redirects are not followed": len(seen) > MOST_HOPS,
    }
    for why, holds in refusals.items():
        if holds:
            fail("W07", f"redirects to {shown(there)}: {why}", where=shown(here), fix=OWN_FIX)
    return there


def refuse_local(addresses: Iterable[str], url: str) -> None:
    """Raises UserError (W07) if one of these is link-local, where machines keep their own secrets."""
    for text in addresses:
        try:
            address = ipaddress.ip_address(text.partition("%")[0].strip("[]"))
        except ValueError:
            continue
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address.is_multicast or address.is_unspecified:
            fail("W07", f"a redirect led here, to the local address {address}", where=shown(url), fix=OWN_FIX)


def check_status(response: requests.Response, url: str) -> None:
    """Returns for 200 and 206. Raises Trouble where waiting may help, else UserError (W01)."""
    status = response.status_code
    if status in (200, 206):
        return
    text = f"the server answers {status} {cleaned(response.reason or '')}".rstrip()
    if status in RETRIED_STATUSES or status >= 500:
        raise Trouble("W03", text, wait=_retry_after(response.headers.get("Retry-After", "")))
    fail("W01", text, where=shown(url), fix="check the address" + ACCOUNT_FIX * (status in (401, 403)))


def _retry_after(value: str) -> float:
    """Seconds, from a number of seconds or from a date."""
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _host(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        fail("W01", f"not an address: {error}", where=shown(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fail("W01", "not an http or https address", where=shown(url))
    return parts.hostname, port


def _origin(url: str) -> tuple[str, str, int]:
    return urlsplit(url).scheme, *_host(url)


def _addresses(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host; the name service itself knows no time-out, so it is asked in a thread."""
    answers: queue.SimpleQueue[list[str] | str] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put([str(i[4][0]) for i in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as error:
            answers.put(str(getattr(error, "strerror", None) or error))

    threading.Thread(target=look_up, daemon=True).start()
    try:
        found = answers.get(timeout=seconds)
    except queue.Empty:
        found = f"no answer from the name service for {seconds:g} s"
    if isinstance(found, str):
        raise Trouble("W03", f"unreachable: {host}: {found}", reached=False)
    return found[:MOST_ADDRESSES]


def _greet(addresses: list[str], port: int, seconds: float) -> None:
    """Returns when the first of the addresses, called all at once, takes a connection."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def call(address: str) -> None:
        try:
            socket.create_connection((address, port), seconds).close()
            answers.put("")
        except OSError as error:
            answers.put(error.strerror or str(error))

    for address in addresses:
        threading.Thread(target=call, args=(address,), daemon=True).start()
    reason, deadline = "no address", time.monotonic() + seconds
    for _ in addresses:
        try:
            reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            reason = f"no connection for {seconds:.1f} s"
        if not reason:
            return
    raise Trouble("W03", f"unreachable: {reason}", reached=False)


def _reason(error: Exception) -> str:
    """The innermost reason of a nested network error, on one line."""
    inner: BaseException = error
    while deeper := inner.__cause__ or inner.__context__:
        inner = deeper
    return cleaned(str(inner) or type(inner).__name__)
