"""The policy controller, as session_proxy or policydb serves it (`magma.lte.CentralSessionController`)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from sessiond.app.ports.peers import UpdateRequest, UsageReport
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.session import PolicyAnswer, Session
from sessiond.pb.magma.lte import session_proxy_pb2
from sessiond.pb.magma.lte.session_proxy_pb2_grpc import CentralSessionControllerStub
from sessiond.southbound.channel import Channel
from sessiond.southbound.policy import messages


class PolicyController:
    """Implements `app.ports.peers.PolicyPeer`.

    `requested_units` are the octets that a new session asks for per rating group, on each leg;
    `timezone_offset_min` is local time, east of UTC, or None if it is not to be told.
    """

    def __init__(
        self, address: str, deadline_ms: int, *, requested_units: int, timezone_offset_min: int | None = None
    ) -> None:
        self.channel = Channel(address)
        self._stub = CentralSessionControllerStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000
        self._requested_units = requested_units
        self._timezone_offset_min = timezone_offset_min

    async def create(self, session: Session) -> PolicyAnswer:
        """Ask whether a session may be, and under which rules and quotas."""
        request = messages.create_request(session, self._requested_units, self._timezone_offset_min)
        return messages.policy_answer(await self.channel.call(self._stub.CreateSession, request, self._deadline_s))

    def requests(self, reports: Sequence[UsageReport], max_bytes: int) -> Iterator[UpdateRequest]:
        """Return the requests that report usage, each as large as a peer takes."""
        for part, request in messages.update_requests(reports, max_bytes):
            yield UpdateRequest(part, partial(self._update, part, request))

    async def _update(
        self, reports: Sequence[UsageReport], request: session_proxy_pb2.UpdateSessionRequest
    ) -> Mapping[str, UpdateAnswer]:
        """Report usage; nothing is sent if there is nothing to report."""
        if not request.updates and not request.usage_monitors:
            return {report.session.key: UpdateAnswer(numbers=report.numbers) for report in reports}
        response = await self.channel.call(self._stub.UpdateSession, request, self._deadline_s)
        return messages.update_answers(reports, response)

    async def terminate(self, session: Session) -> None:
        """Report the end of a session; the answer says nothing more than that it came."""
        await self.channel.call(self._stub.TerminateSession, messages.terminate_request(session), self._deadline_s)

    async def terminate_stale(self, subscriber: str, session_id: str) -> None:
        """Report the end of a session of which nothing is known but its id."""
        request = messages.terminate_stale_request(subscriber, session_id)
        await self.channel.call(self._stub.TerminateSession, request, self._deadline_s)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
