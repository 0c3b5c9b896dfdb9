"""directoryd (`magma.orc8r.GatewayDirectoryService`)."""

from sessiond.core.session import Session
from sessiond.pb.magma.orc8r import common_pb2, directory_pb2
from sessiond.pb.magma.orc8r.directory_pb2_grpc import GatewayDirectoryServiceStub
from sessiond.southbound.channel import Channel
from sessiond.southbound.directory import messages


class Directoryd:
    """Implements `app.ports.peers.DirectoryPeer`."""

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = GatewayDirectoryServiceStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def write(self, session: Session) -> None:
        """Write the record of the session's subscriber."""
        request = messages.update_record_request(session)
        await self.channel.call(self._stub.UpdateRecord, request, self._deadline_s)

    async def delete(self, subscriber: str) -> None:
        """Delete the record of a subscriber."""
        request = directory_pb2.DeleteRecordRequest(id=subscriber)
        await self.channel.call(self._stub.DeleteRecord, request, self._deadline_s)

    async def sessions(self) -> list[tuple[str, str]]:
        """Return (subscriber, session id) of every record that names a session."""
        records = await self.channel.call(self._stub.GetAllDirectoryRecords, common_pb2.Void(), self._deadline_s)
        return messages.sessions(records)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
