"""Read masks: only the fields of a message that somebody wants (AIP-157)."""

from typing import TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from sessiond.core.errors import InvalidArgument

Shown = TypeVar("Shown", bound=Message)


class ReadMask:
    """Shows of each message what is wanted; raise InvalidArgument FIELD_MASK_INVALID if there are no such fields."""

    def __init__(self, paths: FieldMask, shown: type[Message], field: str = "read_mask") -> None:
        unknown = [path for path in paths.paths if path != "*" and not is_path(path, shown)]
        if unknown:
            text = f"{shown.DESCRIPTOR.name} has no field {unknown[0][:80]}"
            raise InvalidArgument("FIELD_MASK_INVALID", text, field=field)
        self._mask = None if not paths.paths or "*" in paths.paths else paths

    def of(self, message: Shown) -> Shown:
        """Return what is wanted of a message."""
        if self._mask is None:
            return message
        masked = type(message)()
        self._mask.MergeMessage(message, masked)
        return masked


def is_path(path: str, shown: type[Message]) -> bool:
    """Whether a path names a field of a message, or one of a message within it."""
    descriptor = shown.DESCRIPTOR
    *parts, last = path.split(".")
    for name in parts:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.is_repeated or field.message_type is None:
            return False
        descriptor = field.message_type
    return last in descriptor.fields_by_name
