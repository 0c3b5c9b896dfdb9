"""Dedicated bearers, as the MME is asked for them."""

from sessiond.core import rules
from sessiond.core.effects import CreateBearer, DeleteBearer
from sessiond.core.rules import Catalogue, Rule
from sessiond.core.session import LteContext, Session
from sessiond.pb.magma.lte import spgw_pb2
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


def delete_bearer_request(session: Session, effect: DeleteBearer) -> spgw_pb2.DeleteBearerRequest:
    """Return the request that takes bearers down; the default one takes the session with it."""
    context = context_of(session)
    return spgw_pb2.DeleteBearerRequest(
        sid=subscriber_to_wire(context.subscriber),
        ip_addr=context.ue_ipv4,
        link_bearer_id=(context.lte or LteContext()).bearer_id,
        eps_bearer_ids=effect.bearer_ids,
    )
