"""Where webhooks may go: public addresses, looked up anew for every attempt, and then asked by that very address."""

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass

import httpx

from accentor.errors import InvalidWebhookError
from accentor.settings import Settings

LOOKUP_S = 5.0
"""Seconds that looking up a name may take."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
MAX_PORT = 65_535
PORTS = {"http": 80, "https": 443}
HOW_TO_ALLOW = "the setting ACCENTOR_WEBHOOK_PRIVATE_ADDRESSES allows it"

_NAME = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?"
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Place:
    """Where a webhook leads to.

    Attributes
    ----------
    host
        Name or address, as the certificate has it.
    """

    scheme: str
    host: str
    port: int
    target: str

    def at(self, address: Address) -> str:
        """Return the URL with an address in the place of the name."""
        shown = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.scheme}://{shown}:{self.port}{self.target}"

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == PORTS[self.scheme] else f"{shown}:{self.port}"


def parse(url: str, settings: Settings) -> Place:
    """Return where a URL leads to; `InvalidWebhookError` unless webhooks may have such a URL."""
    try:
        parts = httpx.URL(url)
        host = parts.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise InvalidWebhookError(f"{url[:200]!r} is no URL: {error}") from error
    allowed = ("https", "http") if settings.webhook_http else ("https",)
    if parts.scheme not in allowed:
        hint = "" if settings.webhook_http else "; the setting ACCENTOR_WEBHOOK_HTTP allows http"
        raise InvalidWebhookError(f"expected a URL that begins with {' or '.join(allowed)}, given {url[:200]!r}{hint}")
    if parts.userinfo or parts.fragment:
        raise InvalidWebhookError("the URL has a user's name or a fragment: expected https://HOST/PATH?QUERY")
    if literal(host) is None and not _NAME.fullmatch(host):
        raise InvalidWebhookError(f"{host[:200]!r} is no name of a host")
    if (parts.port or 0) > MAX_PORT:
        raise InvalidWebhookError(f"the port is at most {MAX_PORT}, given {parts.port}")
    return Place(parts.scheme, host, parts.port or PORTS[parts.scheme], parts.raw_path.decode("ascii"))


def literal(host: str) -> Address | None:
    """Return the address that a host is, or none if it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Tell whether everybody's packets may go there, also through the addresses that stand for others."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolve(place: Place, settings: Settings) -> list[Address]:
    """Return the addresses to send to, the best one first.

    Raises
    ------
    InvalidWebhookError
        If the name stands for nothing, or if any of its addresses is not public and such are not allowed.
    """
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise InvalidWebhookError(
            f"the host {place.host!r} cannot be looked up: {error or 'it takes too long'}"
        ) from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not settings.webhook_private_addresses:
        for address in addresses:
            if not is_public(address):
                raise InvalidWebhookError(
                    f"the host {place.host!r} has the address {address}, which is not public: {HOW_TO_ALLOW}",
                    address=str(address),
                )
    return list(dict.fromkeys(addresses))


async def check(url: str, settings: Settings) -> None:
    """Raise `InvalidWebhookError` if events could not be sent there; a name is looked up unless any address will do."""
    place = parse(url, settings)
    if not settings.webhook_private_addresses:
        await resolve(place, settings)
