"""Addresses and URLs of sessiond.yml: what they must look like."""

import ipaddress
import re

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_REDIS_URL = re.compile(r"rediss?(\+cluster)?://[^/\s?#]+(/\d*)?(\?\S*)?|unix://\S+")


def split_address(address: str) -> tuple[str, int]:
    """Return host (an IPv6 one without its brackets) and port of `host:port`."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"not host:port: {address}")
    return match["host"].strip("[]"), int(match["port"])


def is_address(address: str) -> bool:
    """Whether this is host:port."""
    try:
        split_address(address)
    except ValueError:
        return False
    return True


def is_peer(address: str) -> bool:
    """Whether this is host:port, with a port that can be called."""
    return is_address(address) and split_address(address)[1] > 0


def are_peers(addresses: str) -> bool:
    """Whether these are such, with commas between them."""
    return all(is_peer(address) for address in addresses.split(","))


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_redis_url(url: str) -> bool:
    """Whether this names a Redis."""
    return _REDIS_URL.fullmatch(url) is not None


def is_store_url(url: str) -> bool:
    """Whether this names a store."""
    return url == "memory:" or is_redis_url(url)
