"""Dedicated bearers, as the MME is asked for them, and attachments, as it tells of them."""

from ipaddress import ip_address

from sessiond.core import rules
from sessiond.core.decide.attachment import Attachment, Attachments
from sessiond.core.effects import CreateBearer, DeleteBearer
from sessiond.core.rules import Catalogue, Rule
from sessiond.core.session import LteContext, Session
from sessiond.pb.magma.lte import mobility_pb2, spgw_pb2
from sessiond.pb.sessiond.peers.v1 import access_gateway_pb2
from sessiond.translate.context import context_of
from sessiond.translate.rules import policy_rule_to_wire
from sessiond.translate.scalars import subscriber_to_wire


def create_bearer_request(
    session: Session, effect: CreateBearer, catalogue: Catalogue
) -> spgw_pb2.CreateBearerRequest | None:
    """Return the request for a bearer per rule; rules that nobody can define are left out, None if that is all."""
    known = (rules.definition(rule_id, session.rules.get(rule_id, Rule()), catalogue) for rule_id in effect.rules)
    wanted = [policy_rule_to_wire(rule) for rule in known if rule is not None]
    if not wanted:
        return None
    context = context_of(session)
    return spgw_pb2.CreateBearerRequest(
        sid=subscriber_to_wire(context.subscriber),
        ip_addr=context.ue_ipv4,
        link_bearer_id=(context.lte or LteContext()).bearer_id,
        policy_rules=wanted,
    )


def attachment(message: access_gateway_pb2.Attachment) -> Attachment:
    """Return what the MME says of one attachment."""
    return Attachment(
        subscriber=_with_prefix(message.subscriber),
        apn=message.apn,
        ue_ipv4=message.ue_ipv4,
        ue_ipv6=message.ue_ipv6.partition("/")[0],
        session_id=message.session_id,
    )


def addresses(table: mobility_pb2.SubscriberIPTable) -> Attachments:
    """Return the table of mobilityd as attachments; an address that is none is passed over.

    A mobilityd without a single IPv6 address may be one that does not tell them.
    """
    found = [_address(entry) for entry in table.entries]
    return Attachments(found, tells_ipv6=any(one.ue_ipv6 for one in found))


def _address(entry: mobility_pb2.SubscriberIPTableEntry) -> Attachment:
    """Return an entry; mobilityd leaves the subscriber's prefix out, and may put the kind of address to the APN."""
    octets = entry.ip.address
    text = str(ip_address(octets)) if len(octets) in {4, 16} else ""
    return Attachment(
        subscriber=_with_prefix(entry.sid.id),
        apn=entry.apn.partition(",")[0],
        ue_ipv4=text if len(octets) == 4 else "",
        ue_ipv6=text if len(octets) == 16 else "",
    )


def _with_prefix(subscriber: str) -> str:
    return subscriber if subscriber.startswith("IMSI") else f"IMSI{subscriber}"


def delete_bearer_request(session: Session, effect: DeleteBearer) -> spgw_pb2.DeleteBearerRequest:
    """Return the request that takes bearers down; the default one takes the session with it."""
    context = context_of(session)
    return spgw_pb2.DeleteBearerRequest(
        sid=subscriber_to_wire(context.subscriber),
        ip_addr=context.ue_ipv4,
        link_bearer_id=(context.lte or LteContext()).bearer_id,
        eps_bearer_ids=effect.bearer_ids,
    )
