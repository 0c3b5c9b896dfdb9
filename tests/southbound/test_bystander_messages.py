"""What the MME, directoryd and eventd are told."""

import json

from google.protobuf import json_format
from msgspec import structs

from sessiond.core.effects import CreateBearer, DeleteBearer
from sessiond.core.events import session_created
from sessiond.core.rules import Installed, Rule
from sessiond.core.session import Context
from sessiond.pb.magma.lte import spgw_pb2
from sessiond.pb.magma.orc8r import directory_pb2, event_pb2
from sessiond.southbound.access import messages as access
from sessiond.southbound.directory import messages as directory
from sessiond.southbound.events import messages as events
from sessiond.translate.rules import policy_rule_from_wire
from tests.southbound import recorded
from tests.southbound.recorded import SUBSCRIBER, content


def test_bearer_is_asked_for_as_recorded() -> None:
    """The rule goes whole, with the default bearer of the session."""
    expected = recorded.request("create_bearer", spgw_pb2.CreateBearerRequest)
    rule = Rule(version=1, gx=Installed(policy_rule_from_wire(expected.policy_rules[0])))
    session = recorded.session("a-1", rules={"dyn_qos": rule})
    request = access.create_bearer_request(session, CreateBearer(rules=("dyn_qos",)), {})
    assert request is not None
    assert content(request) == content(expected)


def test_bearer_for_a_rule_that_nobody_can_define_is_not_asked_for() -> None:
    """Rules that are lost get no bearer; without any rule there is no request."""
    effect = CreateBearer(rules=("lost", "static_qos"))
    request = access.create_bearer_request(recorded.session("a-1"), effect, recorded.catalogue())
    assert request is not None
    assert [rule.id for rule in request.policy_rules] == ["static_qos"]
    assert access.create_bearer_request(recorded.session("a-1"), effect, {}) is None


def test_bearer_is_taken_down_as_recorded() -> None:
    """The default bearer is taken down by its own id."""
    request = access.delete_bearer_request(recorded.session("a-1"), DeleteBearer(bearer_ids=(5,)))
    assert content(request) == content(recorded.request("delete_bearer", spgw_pb2.DeleteBearerRequest))


def test_bearers_of_a_session_that_is_not_lte() -> None:
    """Without an LTE context there is no default bearer to name."""
    session = structs.replace(recorded.session("a-1"), context=Context(subscriber=SUBSCRIBER))
    assert access.delete_bearer_request(session, DeleteBearer(bearer_ids=(6,))).link_bearer_id == 0
    effect = CreateBearer(rules=("static_qos",))
    request = access.create_bearer_request(session, effect, recorded.catalogue())
    assert request is not None
    assert request.link_bearer_id == 0


def test_directory_record_is_written_as_recorded() -> None:
    """A record has the session and the phone number of its subscriber."""
    request = directory.update_record_request(recorded.session(f"{SUBSCRIBER}-756521"))
    assert content(request) == content(recorded.request("update_record", directory_pb2.UpdateRecordRequest))


def test_directory_records_without_a_session_are_passed_over() -> None:
    """Only records that name a session say that there was one."""
    records = [
        directory_pb2.DirectoryRecord(id="IMSI1", fields={"session_id": "IMSI1-5", "msisdn": "55"}),
        directory_pb2.DirectoryRecord(id="IMSI2", fields={"session_id": ""}),
        directory_pb2.DirectoryRecord(id="IMSI3", fields={"mac_addr": "x"}),
    ]
    found = directory.sessions(directory_pb2.AllDirectoryRecords(records=records))
    assert found == [("IMSI1", "IMSI1-5")]
    assert dict(records[2].fields) == {"mac_addr": "x"}


def test_event_is_logged_as_recorded() -> None:
    """An event has stream, type and tag, and its value is compact JSON."""
    expected = recorded.request("log_event", event_pb2.Event)
    session = recorded.session(f"{SUBSCRIBER}-756521")
    created = session_created(structs.replace(session, head=structs.replace(session.head, created_at_ms=1795160786000)))
    logged = events.event(created)
    assert json.loads(logged.value) == json.loads(expected.value)
    assert '": ' not in logged.value
    without_value = [json_format.MessageToDict(event) for event in (logged, expected)]
    assert without_value[0].pop("value")
    assert without_value[1].pop("value")
    assert without_value[0] == without_value[1]
