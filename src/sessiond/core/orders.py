"""Orders: by which field sessions are listed; those that are equal in it are in the order of their keys."""

from typing import Any, Final

from msgspec import Struct

from sessiond.core.errors import InvalidArgument
from sessiond.core.fields import FIELDS, Kind
from sessiond.core.session import Session

SORTABLE: Final = frozenset(
    {"key", "type", "subscriber", "msisdn", "data_source"}
    | {name for name, field in FIELDS.items() if field.kind is Kind.TIME}
)
"""The fields that an order can be by."""
CREATED: Final = "create_time"

Place = tuple[Any, str]
"""Where a session is in an order: its value of the field, and its key."""


class Order(Struct, frozen=True, gc=False):
    """By which field, and whether the greatest comes first."""

    field: str = CREATED
    descending: bool = False

    def __str__(self) -> str:
        return f"{self.field} desc" if self.descending else self.field

    def place(self, session: Session) -> Place:
        """Return where a session is."""
        return FIELDS[self.field].read(session), session.key

    def is_after(self, place: Place, other: Place) -> bool:
        """Whether a place comes after another one."""
        return place < other if self.descending else place > other


def parse(text: str) -> Order:
    """Return the order of a text: a field, perhaps with `desc` or `asc`; raise InvalidArgument ORDER_INVALID."""
    name, *direction = text.split() or [CREATED]
    if name not in SORTABLE or direction not in ([], ["asc"], ["desc"]):
        fields = ", ".join(sorted(SORTABLE))
        raise InvalidArgument("ORDER_INVALID", f"an order is one of {fields}, perhaps with desc", field="order_by")
    return Order(name, direction == ["desc"])
