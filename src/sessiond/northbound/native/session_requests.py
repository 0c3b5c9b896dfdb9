"""Requests of `sessiond.v1.SessionService` as commands of the application; pure functions.

What can never be right is refused here, by the path of the field; what depends on the session is decided in the core.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from msgspec import UNSET

from sessiond.core.decide.change import Wanted
from sessiond.core.decide.native import NewSession
from sessiond.core.decide.requests import ANY, Request, Terms
from sessiond.core.errors import InvalidArgument
from sessiond.northbound.native import fields as of
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2

LONGEST_REQUEST_ID: Final = 64

Reader: TypeAlias = Callable[[Any, str], Any]
"""Reads a value of a message; the second argument is its path."""


# -- every request


def request_of(request: Any) -> Request | None:
    """Return by what a request is known again; None if its sender does not want that.

    Values that are sensitive are no part of the digest, which is stored.
    """
    if not request.request_id:
        return None
    if len(request.request_id) > LONGEST_REQUEST_ID:
        text = f"a request id has at most {LONGEST_REQUEST_ID} characters"
        raise InvalidArgument("FIELD_TOO_LONG", text, field="request_id")
    digest = blake2b(type(request).__name__.encode(), digest_size=12)
    digest.update(_without_secrets(request).SerializeToString(deterministic=True))
    return Request(request.request_id, digest.hexdigest())


def terms_of(request: Any, etag: str = "") -> Terms:
    """Return what a change depends on."""
    known = request_of(request)
    return Terms(etag, known) if etag or known else ANY


def _without_secrets(request: Any) -> Any:
    sensitive = request.session.sensitive_details if "session" in request.DESCRIPTOR.fields_by_name else ()
    handshake = "handshake" in request.DESCRIPTOR.fields_by_name and request.HasField("handshake")
    if not sensitive and not handshake:
        return request
    plain = type(request)()
    plain.CopyFrom(request)
    for name in sensitive:
        plain.session.details.fields.pop(name, None)
    if handshake:
        plain.handshake.ClearField("shared_secret")
    return plain


# -- CreateSession

_CREATE: Final[dict[str, tuple[str, Reader]]] = {
    "data_source": ("data_source", of.text_of),
    "namespace": ("namespace", of.text_of),
    "msisdn": ("msisdn", of.msisdn_of),
    "identifier": ("identifier", of.text_of),
    "version": ("version", lambda value, _: value),
    "utc_offset": ("utc_offset", of.offset_of),
    "details": ("details", lambda value, _: _without_nothing(of.details_of(value))),
    "sensitive_details": ("sensitive_details", of.sensitive_of),
    "associate_keys": ("associates", lambda value, field: tuple(of.checked_key(key, field) for key in value)),
    "expire_time": ("expire_at_ms", of.moment_ms),
    "ttl": ("ttl_ms", of.lasting_ms),
    "max_duration": ("max_duration_ms", of.span_ms),
    "idle_timeout": ("idle_timeout_ms", of.span_ms),
    "permissions": ("permissions", lambda value, _: of.permissions_of(value)),
    "isolation": ("isolation", lambda value, _: of.isolation_of(value)),
    "quotas": ("quotas", lambda value, _: {resource: quota.limit for resource, quota in value.items()}),
    "settings": ("options", lambda value, _: of.options_of(value)),
    "peer": ("peer", lambda value, _: of.peer_of(value)),
    "parent_key": ("parent", of.checked_key),
}
"""What a client may say of a new session, where that goes, and how it is read; all other fields are output only."""


def new_session_of(request: session_service_pb2.CreateSessionRequest) -> NewSession:
    """Return what a client says of the session it wants."""
    said = request.session
    if not said.type:
        raise InvalidArgument("SESSION_TYPE_MISSING", "the type of the session is empty", field="session.type")
    values: dict[str, Any] = {}
    for descriptor, value in said.ListFields():
        if (place := _CREATE.get(descriptor.name)) is not None:
            name, read = place
            values[name] = read(value, f"session.{descriptor.name}")
    if "ttl_ms" in values and "expire_at_ms" in values:
        raise InvalidArgument("INVALID_CONFIGURATION", "expire_time and ttl exclude each other", field="session.ttl")
    return NewSession(type=said.type, leave_inactive=request.leave_inactive, **values)


def _without_nothing(details: dict[str, Any]) -> dict[str, Any]:
    """Return details without entries that are null: there is nothing to take away yet."""
    return (
        {name: value for name, value in details.items() if value is not None} if None in details.values() else details
    )


# -- UpdateSession


def _or_zero(read: Reader) -> Reader:
    """Return a reader for which what is not set is 0: without end."""
    return lambda value, field: 0 if value is None else read(value, field)


_UPDATE: Final[dict[str, tuple[str, Reader]]] = {
    "identifier": ("identifier", of.text_of),
    "version": ("version", lambda value, _: value),
    "utc_offset": ("utc_offset", lambda value, field: None if value is None else of.offset_of(value, field)),
    "details": ("details", lambda value, _: {} if value is None else of.details_of(value)),
    "sensitive_details": ("sensitive_details", of.sensitive_of),
    "expire_time": ("expire_at_ms", _or_zero(of.moment_ms)),
    "ttl": ("ttl_ms", lambda value, field: UNSET if value is None else of.lasting_ms(value, field)),
    "max_duration": ("max_duration_ms", _or_zero(of.span_ms)),
    "idle_timeout": ("idle_timeout_ms", _or_zero(of.span_ms)),
    "settings": ("options", lambda value, _: of.options_of(value or session_pb2.Settings())),
    "permissions": ("permissions", lambda value, _: of.permissions_of(value or session_pb2.Permissions())),
    "isolation": ("isolation", lambda value, _: of.isolation_of(value or session_pb2.Isolation())),
    "quotas": ("quotas", lambda value, _: {resource: quota.limit for resource, quota in value.items()}),
}
"""What can be changed, where that goes, and how it is read; None: it is in the mask, and not set."""
_FIXED: Final = frozenset({"key", "associate_keys", "peer", "gateway", "etag"})
_COMPARED: Final = frozenset({"type", "data_source", "namespace", "subscriber", "msisdn", "parent_key"})
"""Fields that cannot be changed either, and may be said again as they are."""
_OUTPUT_ONLY: Final = frozenset({
    "origin", "state", "pending", "end_reason", "end_message", "create_time", "update_time", "activate_time",
    "last_activity_time", "end_time", "traffic", "key_version", "key_rotation_time",
})  # fmt: skip
_DETAIL: Final = "details."


def wanted_of(request: session_service_pb2.UpdateSessionRequest) -> Wanted:
    """Return what is to be changed: the fields of the mask or, without one, those that are set (AIP-134)."""
    said, values, same = request.session, dict[str, Any](), dict[str, str]()
    if not request.update_mask.paths:
        for descriptor, value in said.ListFields():
            if descriptor.name in _COMPARED:
                same[descriptor.name] = value
            elif (place := _UPDATE.get(descriptor.name)) is not None:
                values[place[0]] = place[1](value, f"session.{descriptor.name}")
    for path in request.update_mask.paths:
        _read_path(values, said, path)
    if values.get("ttl_ms", UNSET) is not UNSET and "expire_at_ms" in values:
        if request.update_mask.paths:
            raise InvalidArgument(
                "INVALID_CONFIGURATION", "expire_time and ttl exclude each other", field="session.ttl"
            )
        del values["expire_at_ms"]  # it was read, and is sent back with a new time to live
    return Wanted(same=same, **values)


def _read_path(values: dict[str, Any], said: session_pb2.Session, path: str) -> None:
    """Read one path of a mask."""
    if path == "*":
        for name, (place, read) in _UPDATE.items():
            if name != "ttl":
                values[place] = read(_get(said, name), f"session.{name}")
        values["only_these_details"] = True
    elif path.startswith(_DETAIL):
        name = path.removeprefix(_DETAIL).strip("`")
        if not name:
            raise InvalidArgument("FIELD_MASK_INVALID", "the path names no entry of details", field="update_mask")
        given = said.details.fields.get(name) if said.HasField("details") else None
        values["details"] = {**values.get("details", {}), name: None if given is None else of.value_of(given)}
    elif path in _UPDATE:
        place, read = _UPDATE[path]
        value = read(_get(said, path), f"session.{path}")
        values[place] = {**values.get(place, {}), **value} if path == "details" else value
    elif path.partition(".")[0] in _FIXED | _COMPARED | _OUTPUT_ONLY:
        raise InvalidArgument("FIELD_IMMUTABLE", f"{path} cannot be changed", field=f"session.{path}")
    else:
        raise InvalidArgument("FIELD_MASK_INVALID", f"no field {path[:80]!r} can be changed", field="update_mask")


def _get(said: session_pb2.Session, name: str) -> Any:
    """Return a field; None if it is a message that is not set."""
    if said.DESCRIPTOR.fields_by_name[name].has_presence and not said.HasField(name):  # type: ignore[arg-type]
        return None
    return getattr(said, name)
