"""The record that says which session a subscriber has."""

from sessiond.core.session import Session
from sessiond.pb.magma.orc8r import directory_pb2
from sessiond.translate.context import context_of

_SESSION_ID = "session_id"


def update_record_request(session: Session) -> directory_pb2.UpdateRecordRequest:
    """Return the record of a session; directoryd keeps one per subscriber, the last one written."""
    context = context_of(session)
    fields = {_SESSION_ID: session.key, "msisdn": context.msisdn}
    return directory_pb2.UpdateRecordRequest(id=context.subscriber, fields=fields)


def sessions(records: directory_pb2.AllDirectoryRecords) -> list[tuple[str, str]]:
    """Return (subscriber, session id) of every record that names a session."""
    return [(record.id, record.fields[_SESSION_ID]) for record in records.records if record.fields.get(_SESSION_ID)]
