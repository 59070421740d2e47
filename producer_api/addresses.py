"""Which addresses a file_url may reach: public unicast ones, and what the operator allows. Pure.

`ipaddress.is_global` alone is not enough: it calls 64:ff9b::7f00:1 (NAT64 of 127.0.0.1), 2002:7f00:1::
(6to4), 224.0.0.1 and 192.0.0.192 global. So addresses that carry another one are unpacked first, and
what remains is held against the IANA special-purpose registries and the clouds' metadata services.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from yarl import URL

from schemas.errors import DocfleetError, ErrorCode

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_URL_CHARACTERS: Final = 8192

#: Checked in this order; the first that fits names the reason. RFC 6890 and its registries' later entries.
_REFUSED: Final[tuple[tuple[str, str], ...]] = (
    ("169.254.169.254/32", "a cloud metadata address"),
    ("168.63.129.16/32", "a cloud metadata address"),
    ("100.100.100.200/32", "a cloud metadata address"),
    ("192.0.0.192/32", "a cloud metadata address"),
    ("fd00:ec2::254/128", "a cloud metadata address"),
    ("fd20:ce::254/128", "a cloud metadata address"),
    ("0.0.0.0/8", "an unspecified address"),
    ("::/128", "an unspecified address"),
    ("127.0.0.0/8", "a loopback address"),
    ("::1/128", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("fe80::/10", "a link-local address"),
    ("10.0.0.0/8", "a private address"),
    ("172.16.0.0/12", "a private address"),
    ("192.168.0.0/16", "a private address"),
    ("fc00::/7", "a private address"),
    ("fec0::/10", "a private address"),
    ("100.64.0.0/10", "a carrier-grade NAT address"),
    ("255.255.255.255/32", "the broadcast address"),
    ("224.0.0.0/4", "a multicast address"),
    ("ff00::/8", "a multicast address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "a reserved address"),
    ("192.31.196.0/24", "a reserved address"),
    ("192.52.193.0/24", "a reserved address"),
    ("192.88.99.0/24", "a reserved address"),
    ("192.175.48.0/24", "a reserved address"),
    ("198.18.0.0/15", "a reserved address"),
    ("198.51.100.0/24", "a reserved address"),
    ("203.0.113.0/24", "a reserved address"),
    ("240.0.0.0/4", "a reserved address"),
    ("64:ff9b:1::/48", "a reserved address"),
    ("100::/64", "a reserved address"),
    ("100:0:0:1::/64", "a reserved address"),
    ("2001::/23", "a reserved address"),
    ("2001:db8::/32", "a reserved address"),
    ("2620:4f:8000::/48", "a reserved address"),
    ("3fff::/20", "a reserved address"),
    ("5f00::/16", "a reserved address"),
)
_NETWORKS: Final[tuple[tuple[IPNetwork, str], ...]] = tuple((ipaddress.ip_network(n), why) for n, why in _REFUSED)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

#: What the C library reads as an IPv4 address: up to four numbers, each decimal, octal or hex.
_NUMERIC_HOST: Final = re.compile(r"^(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+)){0,3}\.?$")
_HOST_NAME: Final = re.compile(r"^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*$")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator lets file_url reach besides the public internet."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Return what a list of hosts and networks, separated by commas, allows; ValueError names a wrong entry."""
        hosts, networks = set(), []
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError as error:
                if "/" in entry or _NUMERIC_HOST.match(entry) or not _HOST_NAME.match(entry):
                    raise ValueError(f"{entry!r} is neither a host name nor a network such as 10.1.0.0/16") from error
                hosts.add(entry.rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def has_host(self, host: str) -> bool:
        """Whether this host is allowed by its name, whatever it resolves to."""
        return host.lower().rstrip(".") in self.hosts


def why_refused(address: IPAddress, allowed: Allowed) -> str | None:
    """Return what kind of address this is when it must not be reached, such as "a private address"; else None."""
    if any(address.version == network.version and address in network for network in allowed.networks):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "an address with a zone"
        for carried in _carried(address):
            if (why := why_refused(carried, allowed)) is not None:
                return why
        if address.ipv4_mapped is not None or address in _NAT64 or address.sixtofour is not None:
            return None  # all that it leads to is the address it carries, which may be reached
    for network, why in _NETWORKS:
        if address.version == network.version and address in network:
            return why
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return "a reserved address"
    return None


def _carried(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses inside: mapped, compatible, NAT64, 6to4, Teredo (server and client), ISATAP."""
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    found = [a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a is not None]
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and number > 1):
        found.append(low)
    if (number >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(low)
    return found


def literal(host: str) -> IPAddress | None:
    """Return the address that `host` spells in any form that the C library takes, None when it is a name.

    ValueError: a number that is no address, such as 999.1.1.1.
    """
    if ":" in host:
        return ipaddress.IPv6Address(host)
    if not _NUMERIC_HOST.match(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError as error:
        raise ValueError(f"{host} is no address") from error


def check_url(url: str, allowed: Allowed) -> SplitResult:
    """Return the parts of a URL that may be asked for; DocfleetError URL_NOT_ALLOWED says why another may not.

    Names are resolved later: this looks at scheme, credentials, host and literal addresses only.
    """
    if len(url) > _MAX_URL_CHARACTERS:
        raise _refused(f"it is longer than {_MAX_URL_CHARACTERS} characters")
    if any(ord(character) <= 0x20 or ord(character) == 0x7F or character == "\\" for character in url):
        raise _refused("it has white space, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused("it is no valid URL") from error
    if parts.scheme not in ("http", "https"):
        raise _refused("only http and https are allowed")
    if "@" in parts.netloc:
        raise _refused("it has credentials in it")
    if not host:
        raise _refused("it names no host")
    _check_host(host, allowed)
    try:
        as_asked(url)
    except ValueError as error:  # such as a host with characters that only the standard library's IDNA drops
        raise _refused("it is no valid URL") from error
    return parts


def as_asked(url: str) -> URL:
    """Return the URL as the HTTP client takes it, never quoted anew: it may be signed. ValueError when it is none."""
    return URL(url, encoded=url.isascii())


def _check_host(host: str, allowed: Allowed) -> None:
    try:
        address = literal(_normal(host))
    except ValueError as error:
        raise _refused(f"{host} is no valid address") from error
    if address is None:
        name = _normal(host).rstrip(".")
        if not _HOST_NAME.match(name) or _NUMERIC_HOST.match(name.rpartition(".")[2]):
            raise _refused(f"{host} is no valid host name")
        return
    why = why_refused(address, allowed)
    if why is not None:
        raise _refused(f"{host} is {why}")


def _normal(host: str) -> str:
    """Return the host as it is resolved: IDNA maps full-width digits and dots such as １２７。0。0。1 to ASCII."""
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError("not a host name") from error


def _refused(why: str) -> DocfleetError:
    # A server's Location that is no UTF-8 comes with lone surrogates, which no event can hold.
    sentence = f"file_url is not allowed: {why}.".encode(errors="backslashreplace").decode()
    return DocfleetError(ErrorCode.URL_NOT_ALLOWED, sentence)
