"""Orders: what sessions can be listed by."""

import pytest

from sessiond.core.errors import InvalidArgument
from sessiond.core.orders import Order, parse
from tests.core.test_filters import ATTACHED, RECORDING


@pytest.mark.parametrize(
    ("text", "order", "printed"),
    [
        ("", Order("create_time"), "create_time"),
        ("key", Order("key"), "key"),
        (" end_time  asc ", Order("end_time"), "end_time"),
        ("last_activity_time desc", Order("last_activity_time", descending=True), "last_activity_time desc"),
    ],
)
def test_what_an_order_is(text: str, order: Order, printed: str) -> None:
    """A field, perhaps with a direction."""
    assert parse(text) == order
    assert str(order) == printed


@pytest.mark.parametrize("text", ["state", "details.a", "key, type", "key down", "key desc desc", "desc"])
def test_what_is_no_order(text: str) -> None:
    """Another field, several of them, another direction."""
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert (caught.value.reason, caught.value.field) == ("ORDER_INVALID", "order_by")


def test_places_are_those_of_the_field_and_the_key() -> None:
    """The one after the other, or before it if the greatest comes first."""
    order = Order("type")
    lte, stream = order.place(ATTACHED), order.place(RECORDING)
    assert (lte, stream) == (("lte", ATTACHED.key), ("stream", "7"))
    assert order.is_after(stream, lte)
    assert not order.is_after(lte, stream)
    assert Order("type", descending=True).is_after(lte, stream)
