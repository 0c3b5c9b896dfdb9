"""Volumes: what is granted, used and asked for; all in octets, tx is uplink, rx is downlink."""

from msgspec import Struct


class GrantedUnits(Struct, frozen=True, gc=False):
    """A Granted-Service-Unit (TS 32.299 7.2): octets per leg, None where the leg is not part of the grant."""

    total: int | None = None
    tx: int | None = None
    rx: int | None = None


class RequestedUnits(Struct, frozen=True, gc=False):
    """A Requested-Service-Unit (TS 32.299 7.2): octets per leg, 0 where nothing is asked for."""

    total: int = 0
    tx: int = 0
    rx: int = 0


class Volume(Struct, frozen=True, gc=False):
    """Octets up and down."""

    tx: int = 0
    rx: int = 0
