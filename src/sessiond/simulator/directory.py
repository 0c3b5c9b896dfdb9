"""directoryd: one record per subscriber, with the session it has."""

import grpc

from sessiond.pb.magma.orc8r import directory_pb2_grpc
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.pb.magma.orc8r.directory_pb2 import (
    AllDirectoryRecords,
    DeleteRecordRequest,
    DirectoryField,
    DirectoryRecord,
    GetDirectoryFieldRequest,
    UpdateRecordRequest,
)
from sessiond.simulator.wire import Context

LOCATIONS = 5
"""How many of its last locations are kept of a subscriber."""


class Directory(directory_pb2_grpc.GatewayDirectoryServiceServicer):
    """The records, in memory."""

    def __init__(self) -> None:
        self.records: dict[str, DirectoryRecord] = {}

    async def UpdateRecord(self, request: UpdateRecordRequest, context: Context) -> Void:
        """Set what is given, keep the rest."""
        if not request.id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "id is empty")
        record = self.records.setdefault(request.id, DirectoryRecord(id=request.id))
        if request.location and request.location not in record.location_history[:1]:
            kept = [request.location, *record.location_history][:LOCATIONS]
            del record.location_history[:]
            record.location_history.extend(kept)
        record.fields.update(request.fields)
        return Void()

    async def DeleteRecord(self, request: DeleteRecordRequest, context: Context) -> Void:
        """Forget a subscriber."""
        if self.records.pop(request.id, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no record of {request.id}")
        return Void()

    async def GetDirectoryField(self, request: GetDirectoryFieldRequest, context: Context) -> DirectoryField:
        """Return one field of one record."""
        record = self.records.get(request.id)
        if record is None or request.field_key not in record.fields:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.field_key} of {request.id}")
        return DirectoryField(key=request.field_key, value=record.fields[request.field_key])

    async def GetAllDirectoryRecords(self, _request: Void, _context: Context) -> AllDirectoryRecords:
        """Return everything."""
        return AllDirectoryRecords(records=self.records.values())
