"""The gRPC server: every surface on one port, behind one admission, with health and reflection."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from msgspec import Struct

from sessiond.northbound.identity import Gate
from sessiond.northbound.interceptors import Admission, AdmissionInterceptor, Watch

QUIET_AT_MOST_S: Final = 0.5
"""How long callers that do not mind being refused may hold the end back."""
MAX_INBOUND_OCTETS: Final = 64 * 1024 * 1024
"""A usage table of some 300,000 records."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_INBOUND_OCTETS),
    ("grpc.max_send_message_length", MAX_INBOUND_OCTETS),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second daemon
    ("grpc.http2.bdp_probe", 0),  # a stalled stream costs 0.1 MB instead of 5
)


class Tls(Struct, frozen=True):
    """Certificate chain and key of the server; with a client CA, clients must show a certificate of it."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None

    @classmethod
    def read(cls, certificate: str, key: str, client_ca: str | None) -> "Tls":
        """Return what these PEM files hold."""
        ca = Path(client_ca).read_bytes() if client_ca else None
        return cls(Path(certificate).read_bytes(), Path(key).read_bytes(), ca)


class Server:
    """Listens and answers; `register` is given every service to add itself to the server."""

    def __init__(
        self,
        register: Sequence[Callable[[grpc.aio.Server], None]],
        names: Sequence[str],
        *,
        reflect: bool,
        watch: Watch | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.admission = Admission(watch)
        self._health = HealthServicer()
        interceptor = AdmissionInterceptor(self.admission, gate or Gate())
        self._server = grpc.aio.server(interceptors=[interceptor], options=OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for add in register:
            add(self._server)
        if reflect:
            health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            reflection.enable_server_reflection([*names, health_name, reflection.SERVICE_NAME], self._server)

    async def listen(self, address: str, tls: Tls | None) -> int:
        """Take the address and begin to answer; return the port. Raise OSError if the address cannot be taken."""
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: it is in use, or not an address of this machine") from error
        await self._server.start()
        return port

    async def serving(self) -> None:
        """Tell health checks that calls are welcome."""
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    async def close(self, drain_s: float) -> None:
        """Tell health checks that it is over, admit no more calls, let those under way end, and stop."""
        await self._health.enter_graceful_shutdown()
        await self.admission.drain(drain_s)
        await self.admission.quiet(QUIET_AT_MOST_S)
        await self._server.stop(0.2)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], tls.client_ca, require_client_auth=tls.client_ca is not None
    )
