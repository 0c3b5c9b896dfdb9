"""Who and where a session is: the common context and the one of its access, as every request about it carries them."""

from typing import Final

from sessiond.core.errors import FailedPrecondition
from sessiond.core.rules import Teids
from sessiond.core.session import Context, DestinationHosts, LteContext, QosInformation, Rat, Session, WlanContext
from sessiond.pb.magma.lte import qos_pb2, session_context_pb2
from sessiond.translate.scalars import octets_of, text_of

_RATS: Final = {session_context_pb2.TGPP_LTE: Rat.LTE, session_context_pb2.TGPP_WLAN: Rat.WLAN}
_RAT_NUMBERS: Final = {rat: number for number, rat in _RATS.items()}
_NO_TUNNEL: Final = Teids()
_KBPS: Final = qos_pb2.QosInformationRequest.KBPS


def context_from_wire(
    common: session_context_pb2.CommonSessionContext, specific: session_context_pb2.RatSpecificContext
) -> Context:
    """Return the context of a session; refuse a radio access other than LTE and carrier wifi.

    The subscriber is taken as it is written: whoever creates a session by it checks it (`core.ids.check_subscriber`).
    """
    rat = _RATS.get(common.rat_type)
    if rat is None:
        text = f"Received an invalid RAT type {common.rat_type}"
        raise FailedPrecondition("RAT_TYPE_INVALID", text, field="common_context.rat_type")
    return Context(
        subscriber=common.sid.id,
        apn=common.apn,
        ue_ipv4=common.ue_ipv4,
        ue_ipv6=common.ue_ipv6,
        msisdn=text_of(common.msisdn),
        rat=rat,
        teids=teids_from_wire(common.teids),
        lte=_lte_from_wire(specific.lte_context) if specific.HasField("lte_context") else None,
        wlan=_wlan_from_wire(specific.wlan_context) if specific.HasField("wlan_context") else None,
    )


def common_context_to_wire(context: Context) -> session_context_pb2.CommonSessionContext:
    """Return what a session has over any radio; the tunnel only once it is known."""
    message = session_context_pb2.CommonSessionContext()
    write_common_context(message, context)
    return message


def write_common_context(message: session_context_pb2.CommonSessionContext, context: Context) -> None:
    """Fill what a session has over any radio in; a message that is part of another one is dear to copy."""
    if context.subscriber:
        message.sid.id = context.subscriber
    message.apn = context.apn
    message.ue_ipv4 = context.ue_ipv4
    message.ue_ipv6 = context.ue_ipv6
    message.msisdn = octets_of(context.msisdn)
    message.rat_type = _RAT_NUMBERS[context.rat]
    if (teids := context.teids) != _NO_TUNNEL:
        message.teids.enb_teid = teids.enb
        message.teids.agw_teid = teids.agw


def rat_specific_context_to_wire(context: Context) -> session_context_pb2.RatSpecificContext:
    """Return what a session has over its own radio."""
    if context.lte is not None:
        return session_context_pb2.RatSpecificContext(lte_context=_lte_to_wire(context.lte))
    if context.wlan is not None:
        return session_context_pb2.RatSpecificContext(wlan_context=_wlan_to_wire(context.wlan))
    return session_context_pb2.RatSpecificContext()


def context_of(session: Session) -> Context:
    """Return the context of a gateway session; no other is ever told to a peer of the gateway."""
    if session.context is None:
        raise TypeError(f"session {session.key} is not a gateway session")
    return session.context


def rat_to_wire(rat: Rat) -> session_context_pb2.RATType.ValueType:
    """Return the number of a radio access."""
    return _RAT_NUMBERS[rat]


def teids_from_wire(teids: session_context_pb2.Teids) -> Teids:
    """Return the two ends of a tunnel, 0 where it is not known."""
    return Teids(enb=teids.enb_teid, agw=teids.agw_teid)


def teids_to_wire(teids: Teids) -> session_context_pb2.Teids | None:
    """Return the message of a tunnel; none if it is not known."""
    if teids == _NO_TUNNEL:
        return None
    return session_context_pb2.Teids(enb_teid=teids.enb, agw_teid=teids.agw)


def hosts_from_wire(hosts: session_context_pb2.TgppContext) -> DestinationHosts:
    """Return the Diameter hosts that answered."""
    return DestinationHosts(gx=hosts.gx_dest_host, gy=hosts.gy_dest_host)


def hosts_to_wire(hosts: DestinationHosts) -> session_context_pb2.TgppContext:
    """Return the message of the Diameter hosts that are to answer."""
    return session_context_pb2.TgppContext(gx_dest_host=hosts.gx, gy_dest_host=hosts.gy)


def _lte_from_wire(lte: session_context_pb2.LTESessionContext) -> LteContext:
    return LteContext(
        spgw_ipv4=lte.spgw_ipv4,
        imei=lte.imei,
        plmn_id=lte.plmn_id,
        imsi_plmn_id=lte.imsi_plmn_id,
        user_location=lte.user_location,
        qos=_qos_from_wire(lte.qos_info) if lte.HasField("qos_info") else None,
        bearer_id=lte.bearer_id,
        charging_characteristics=lte.charging_characteristics,
    )


def _lte_to_wire(lte: LteContext) -> session_context_pb2.LTESessionContext:
    return session_context_pb2.LTESessionContext(
        spgw_ipv4=lte.spgw_ipv4,
        imei=lte.imei,
        plmn_id=lte.plmn_id,
        imsi_plmn_id=lte.imsi_plmn_id,
        user_location=lte.user_location,
        qos_info=_qos_to_wire(lte.qos) if lte.qos is not None else None,
        bearer_id=lte.bearer_id,
        charging_characteristics=lte.charging_characteristics,
    )


def _qos_from_wire(qos: qos_pb2.QosInformationRequest) -> QosInformation:
    return QosInformation(
        apn_ambr_dl=qos.apn_ambr_dl,
        apn_ambr_ul=qos.apn_ambr_ul,
        priority_level=qos.priority_level,
        preemption_capability=qos.preemption_capability,
        preemption_vulnerability=qos.preemption_vulnerability,
        qci=qos.qos_class_id,
        kbps=qos.br_unit == _KBPS,
    )


def _qos_to_wire(qos: QosInformation) -> qos_pb2.QosInformationRequest:
    return qos_pb2.QosInformationRequest(
        apn_ambr_dl=qos.apn_ambr_dl,
        apn_ambr_ul=qos.apn_ambr_ul,
        priority_level=qos.priority_level,
        preemption_capability=qos.preemption_capability,
        preemption_vulnerability=qos.preemption_vulnerability,
        qos_class_id=qos.qci,
        br_unit=_KBPS if qos.kbps else qos_pb2.QosInformationRequest.BPS,
    )


def _wlan_from_wire(wlan: session_context_pb2.WLANSessionContext) -> WlanContext:
    return WlanContext(
        mac_addr_binary=wlan.mac_addr_binary,
        mac_addr=wlan.mac_addr,
        radius_session_id=wlan.radius_session_id,
    )


def _wlan_to_wire(wlan: WlanContext) -> session_context_pb2.WLANSessionContext:
    return session_context_pb2.WLANSessionContext(
        mac_addr_binary=wlan.mac_addr_binary,
        mac_addr=wlan.mac_addr,
        radius_session_id=wlan.radius_session_id,
    )
