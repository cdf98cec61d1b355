"""Check addresses: URLs, origins, hosts and networks.

Only spellings are judged; no name is resolved and nothing is contacted. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from rtobserver.config.values import Wrong, quoted

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABELS = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_NUMERIC = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+))*")
_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address) for address in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine alone."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")


def is_wildcard(host: str) -> bool:
    """Say whether a host stands for every address of this machine."""
    address = _address(host)
    return address is not None and address.is_unspecified


def host(value: str) -> str:
    """Check a host name or IP address without scheme, port and brackets; gives it in lower case."""
    if _address(value) is None and (not _LABELS.fullmatch(value) or _NUMERIC.fullmatch(value)):
        raise Wrong(
            f"is not a host: {quoted(value)}", "write a name or an IP address, without scheme, port or brackets"
        )
    return value.lower()


def network(value: str) -> str:
    """Check a network in CIDR notation, or a single address."""
    try:
        found = ipaddress.ip_network(value)
    except ValueError:
        raise Wrong(f"is not a network: {quoted(value)}", _network_hint(value)) from None
    if found.prefixlen == 0:
        raise Wrong(f"trusts every address: {quoted(value)}", "name the network that your proxies stand in")
    return str(found)


def origin(value: str) -> str:
    """Check an origin, spelt as browsers send it: `scheme://host` or `scheme://host:port`."""
    if value in ("*", "null") or "*" in value:
        raise Wrong(f"is not an exact origin: {quoted(value)}", "name each origin, as in https://app.example.com")
    parts = _split(value)
    if parts.scheme not in _DEFAULT_PORTS:
        raise Wrong(f"is not an http or https origin: {_shown(parts)}", "write it as in https://app.example.com")
    if parts.username is not None or parts.path or parts.query or parts.fragment or value[-1:] in "/?#":
        raise Wrong(f"is more than an origin: {_shown(parts)}", "leave out everything after the host and port")
    shown_host = _bracketed(parts.hostname or "")
    bare = parts.port is None or parts.port == _DEFAULT_PORTS[parts.scheme]
    exact = f"{parts.scheme}://{shown_host}" + ("" if bare else f":{parts.port}")
    if value != exact:
        raise Wrong(f"is not spelt as browsers send it: {quoted(value)}", f"write {exact}")
    return value


def optional_origin(value: str) -> str:
    """Check an origin that may be left empty; one slash at its end is forgiven."""
    return origin(value.removesuffix("/")) if value else ""


def outbound(value: str, *, allow_http: bool = False) -> str:
    """Check an address that we send requests to: https, or http to this machine.

    User-info is refused, and so are link-local and metadata addresses, which answer with a cloud machine's own
    credentials.
    """
    parts = _split(value)
    if parts.scheme not in ("http", "https"):
        raise Wrong(f"is not an https address: {_shown(parts)}", "write it as in https://host/path")
    if parts.username is not None or parts.password is not None:
        raise Wrong("holds a user name or password", "leave out everything before the @")
    if parts.fragment:
        raise Wrong(f"holds a fragment: {_shown(parts)}", "leave out the # and what follows")
    _refuse_internal(parts)
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname or ""):
        raise Wrong(f"is not https: {_shown(parts)}", "http is for loopback addresses only")
    return value


def optional_outbound(value: str) -> str:
    """Check an address that we send requests to and that may be left empty."""
    return outbound(value) if value else ""


def upstream(value: str) -> str:
    """Check the base of the Realtime API; gives it without a slash at its end."""
    parts = _split(value)
    if "api-version" in parts.query.lower():
        raise Wrong(
            "carries an api-version",
            "the GA protocol under /openai/v1 refuses dated versions; leave out the ? and what follows",
        )
    _refuse_preview(parts)
    outbound(value)
    if parts.query or "?" in value:
        raise Wrong(f"holds a query: {_shown(parts)}", "leave out the ? and what follows")
    return value.rstrip("/")


def proxy(value: str) -> str:
    """Check the address of an HTTP proxy; empty means none, a user name and password are allowed."""
    if not value:
        return ""
    parts = _split(value)
    if parts.scheme not in ("http", "https"):
        raise Wrong("is not an http address", "write it as in http://proxy.example.com:3128")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Wrong("is more than a host and port", "write it as in http://proxy.example.com:3128")
    _refuse_internal(parts)
    return value


def host_of(url: str) -> str:
    """Give the host of an address that was checked, in lower case and without brackets."""
    return urlsplit(url).hostname or ""


def _refuse_preview(parts: SplitResult) -> None:
    where = f"{parts.hostname}{parts.path}".lower()
    segments = parts.path.lower().split("/")
    dated = any(segment in ("realtimertc", "realtimeapi") for segment in segments)
    before_v1 = "realtime" in segments and "openai" in segments and "v1" not in segments
    if dated or before_v1 or "realtimeapi-preview" in where:
        raise Wrong(
            f"is an address of the preview API: {_shown(parts)}",
            "Azure retired it on 2026-04-30; write https://RESOURCE.openai.azure.com/openai/v1",
        )


def _refuse_internal(parts: SplitResult) -> None:
    name = (parts.hostname or "").rstrip(".")
    address = _address(name)
    if address is None:
        if name in _METADATA_HOSTS:
            raise Wrong(f"is a cloud machine's metadata address: {quoted(name)}", "name the service itself")
        return
    if address.is_link_local or address in _METADATA_ADDRESSES:
        raise Wrong(f"is a link-local or metadata address: {quoted(name)}", "name the service itself")
    if address.is_unspecified or address.is_multicast:
        raise Wrong(f"is not the address of one machine: {quoted(name)}", "name the service itself")


def _split(value: str) -> SplitResult:
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        raise Wrong("is not an address: it holds spaces, backslashes or characters outside ASCII", "encode them")
    try:
        parts = urlsplit(value)
        unusable = not parts.scheme or not parts.hostname or parts.port == 0
    except ValueError:
        unusable = True
    if unusable:
        raise Wrong("is not a whole address", "write it with scheme and host, as in https://host/path")
    try:
        host(parts.hostname or "")
    except Wrong:
        raise Wrong(f"has no usable host: {quoted(parts.hostname or '')}", "write a name or an IP address") from None
    return parts


def _address(name: str) -> Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _network_hint(value: str) -> str:
    try:
        return f"write {ipaddress.ip_network(value, strict=False)}"
    except ValueError:
        return "write it as in 10.0.0.0/8"


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _shown(parts: SplitResult) -> str:
    """Show an address in a message without what could be a secret in it."""
    port = f":{parts.port}" if parts.port else ""
    return quoted(f"{parts.scheme}://{_bracketed(parts.hostname or '')}{port}{parts.path}")
