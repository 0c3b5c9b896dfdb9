"""Lists over the wire: pages, tokens, masks and counts, and how mistakes are answered."""

from collections.abc import Awaitable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from msgspec import structs

from sessiond.app.activity import Activity
from sessiond.app.listing import Listing
from sessiond.app.ports.store import Create
from sessiond.core.errors import InvalidArgument
from sessiond.core.lifecycle import State
from sessiond.core.session import Session
from sessiond.northbound.native import lists as module
from sessiond.northbound.native.lists import Lists
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.store.memory import MemoryStore
from sessiond.testing.clock import HandClock
from tests.app.test_listing import session

Request = session_service_pb2.ListSessionsRequest


async def lists_of(*sessions: Session) -> Lists:
    """Return the lists over a store with these sessions."""
    store = MemoryStore()
    await store.write([Create(one) for one in sessions])
    listing = Listing(store, Activity(), HandClock())
    for one in sessions:
        listing.take_up(one)
    return Lists(listing)


async def refused(call: Awaitable[object]) -> tuple[str, str]:
    """Return why a call fails, and which field is to blame."""
    with pytest.raises(InvalidArgument) as caught:
        await call
    return caught.value.reason, caught.value.field


async def test_pages_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer says where the next one begins; the last one says nothing."""
    monkeypatch.setattr(module, "TURN", 2)
    lists = await lists_of(*map(session, range(7)))
    request, keys, sizes = Request(page_size=3, order_by="key desc"), [], []
    while True:
        answer = await lists.sessions(request)
        keys += [one.key for one in answer.sessions]
        sizes.append(len(answer.sessions))
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert keys == [f"k{number:04d}" for number in reversed(range(7))]
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize(("wanted", "given"), [(0, 50), (1, 1), (1000, 1000), (1_000_000, 1000)])
async def test_page_sizes(wanted: int, given: int) -> None:
    """None is 50, and more than 1000 is 1000."""
    lists = await lists_of(*map(session, range(1001)))
    assert len((await lists.sessions(Request(page_size=wanted))).sessions) == given


@pytest.mark.parametrize("order", ["create_time", "key desc"])
async def test_a_page_of_large_sessions_ends_earlier(order: str) -> None:
    """A page is no larger than what a client takes by default; one session that is larger is a page of its own."""
    details = [{"text": "x" * 1_000_000}] * 7 + [{"text": "x" * 5_000_000}] + [{}] * 2
    large = [structs.replace(session(number), details=one) for number, one in enumerate(details)]
    lists = await lists_of(*large)
    request, pages = Request(order_by=order), list[list[str]]()
    while True:
        answer = await lists.sessions(request)
        assert len(answer.sessions) == 1 or answer.ByteSize() < 4 * 2**20
        pages.append([one.key for one in answer.sessions])
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    keys = [one.key for one in large]
    assert [key for page in pages for key in page] == (keys if order == "create_time" else keys[::-1])
    assert max(map(len, pages)) == 3


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"filter": "key ="}, "FILTER_INVALID", "filter"),
        ({"order_by": "colour"}, "ORDER_INVALID", "order_by"),
        ({"page_size": -1}, "PAGE_SIZE_INVALID", "page_size"),
        ({"page_token": "nonsense"}, "PAGE_TOKEN_INVALID", "page_token"),
        ({"page_token": "ä"}, "PAGE_TOKEN_INVALID", "page_token"),
        ({"page_token": "AAAA"}, "PAGE_TOKEN_INVALID", "page_token"),
        ({"read_mask": FieldMask(paths=["key", "colour"])}, "FIELD_MASK_INVALID", "read_mask"),
        ({"read_mask": FieldMask(paths=["key.part"])}, "FIELD_MASK_INVALID", "read_mask"),
        ({"read_mask": FieldMask(paths=["associate_keys.part"])}, "FIELD_MASK_INVALID", "read_mask"),
    ],
)
async def test_what_is_no_list(fields: dict[str, Any], reason: str, field: str) -> None:
    """The error says which field is wrong."""
    lists = await lists_of(session(1))
    assert await refused(lists.sessions(Request(**fields))) == (reason, field)


@pytest.mark.parametrize("other", [{"filter": "type = sms"}, {"order_by": "key"}, {"order_by": "create_time desc"}])
async def test_a_token_is_good_for_its_list_only(other: dict[str, str]) -> None:
    """With another filter or order it is refused; another page size, or a filter written otherwise, is welcome."""
    lists = await lists_of(*map(session, range(5)))
    token = (await lists.sessions(Request(filter="type = ussd", page_size=2))).next_page_token
    fields: dict[str, Any] = {"filter": "type = ussd", "page_token": token, **other}
    assert await refused(lists.sessions(Request(**fields))) == ("PAGE_TOKEN_INVALID", "page_token")
    rest = await lists.sessions(Request(filter='(type="ussd")'.replace('"', ""), page_token=token, page_size=9))
    assert len(rest.sessions) == 3


async def test_a_token_cannot_be_made_up() -> None:
    """One whose content has been changed is refused."""
    lists = await lists_of(*map(session, range(5)))
    token = (await lists.sessions(Request(page_size=2))).next_page_token
    for at in range(len(token)):
        changed = f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}"
        assert await refused(lists.sessions(Request(page_token=changed))) == ("PAGE_TOKEN_INVALID", "page_token")


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["key", "state"], {"key", "state"}),
        (["traffic.bytes_sent"], {"traffic"}),
        (["*"], {"key", "type", "origin", "state", "create_time", "version", "data_source", "namespace", "etag"}),
    ],
)
async def test_a_mask_leaves_what_is_wanted(paths: list[str], shown: set[str]) -> None:
    """Other fields are not set; a star stands for all."""
    lists = await lists_of(session(1))
    (one,) = (await lists.sessions(Request(read_mask=FieldMask(paths=paths)))).sessions
    assert {field.name for field, _ in one.ListFields()} <= shown
    if paths == ["*"]:
        assert {field.name for field, _ in one.ListFields()} >= {"key", "type", "state"}


async def test_counts_name_every_state() -> None:
    """A state that no session is in has its 0."""
    lists = await lists_of(session(1), session(2, state=State.CLOSED))
    answer = await lists.statistics(session_service_pb2.GetStatisticsRequest(filter="type = ussd"))
    counts = {session_pb2.SessionState.Name(one.state): one.count for one in answer.states}
    assert len(counts) == len(State)
    assert (answer.total, counts["SESSION_STATE_ACTIVE"], counts["SESSION_STATE_PAUSED"]) == (2, 1, 0)
    assert dict(answer.types) == {"ussd": 1}
    assert await refused(lists.statistics(session_service_pb2.GetStatisticsRequest(filter="x"))) == (
        "FILTER_INVALID",
        "filter",
    )
