"""The client that programs use: typed, asynchronous, repeating what may be repeated; it needs nothing of the daemon."""

from pathlib import Path

from sessiond.client.client import Client
from sessiond.client.lease import Lease, SessionLost
from sessiond.client.link import TIMEOUT_S, Link, open_channel
from sessiond.client.watching import Event, Watch
from sessiond.pb.sessiond.v1.session_pb2 import Isolation, Peer, Session, Settings, Traffic
from sessiond.pb.sessiond.v1.session_service_pb2 import Handshake

__all__ = [
    "Client",
    "Event",
    "Handshake",
    "Isolation",
    "Lease",
    "Peer",
    "Session",
    "SessionLost",
    "Settings",
    "Traffic",
    "Watch",
    "connect",
]


def connect(
    address: str = "127.0.0.1:50065",
    *,
    token: str = "",
    tls: bool = False,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    server_name: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Client:
    """Return a client of the daemon at an address; it connects when it is first needed.

    `token` is shown with every call. With `tls`, a `ca` to trust in place of the system's, or a `certificate` and its
    `key` to show (PEM files), the connection is encrypted. A call takes `timeout_s` at most, all repetitions included.
    """
    channel = open_channel(address, tls=tls, ca=ca, certificate=certificate, key=key, server_name=server_name)
    return Client(Link(channel, token, timeout_s))
