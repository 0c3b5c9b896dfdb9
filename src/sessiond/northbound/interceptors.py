"""What every RPC goes through: admission while the daemon is up, decoding, and errors turned into statuses."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import wraps
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from sessiond.core.errors import InvalidArgument, SessionError, Unavailable
from sessiond.northbound.gathering import Gathering
from sessiond.northbound.identity import PREFIX, Gate
from sessiond.northbound.status import answer_of

log = structlog.get_logger(__name__)

ALWAYS_ADMITTED: Final = ("/grpc.health.v1.", "/grpc.reflection.")
"""Who asks about the daemon is answered to the end."""

QUIET_S: Final = 0.05
"""So long without a call, and nobody is calling any more."""

Handler = Any  # grpc.RpcMethodHandler, which the stubs make generic and the runtime does not
Behaviour = Callable[[Any, Any], Awaitable[Any]]
Watch = Callable[[str, str, float], None]
"""What is told of every call that was let in, once it is over: its method, its status, and the seconds it took."""


class Admission:
    """Lets calls in until the daemon drains; then refuses new ones and, in the end, those still running.

    A stream has no end of its own and is ended as soon as the daemon drains.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self._gathering = Gathering()
        self._draining = False
        self._cut_off = False
        self._running: set[asyncio.Task[Any]] = set()
        self._refused = asyncio.Event()
        self._streams: set[asyncio.Task[Any]] = set()

    async def drain(self, timeout_s: float) -> None:
        """Admit nothing more; give the calls under way some time, then answer them UNAVAILABLE."""
        self._draining = True
        streams = _cancelled(self._streams)
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        self._cut_off = True
        rest = streams | _cancelled(self._running)
        if rest:
            await asyncio.wait(rest, timeout=1.0)

    async def quiet(self, at_most_s: float) -> None:
        """Return when no call has been refused for a moment, or after some time.

        A call that has not got to us when the server stops ends in CANCELLED, which tells nobody to try again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while await self._refuses_within(QUIET_S):
                    self._refused.clear()

    async def _refuses_within(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                return await self._refused.wait()
        except TimeoutError:
            return False

    def watched(self, behaviour: Behaviour, method: str) -> Behaviour:
        """Return a guarded method of which is told how its calls end; `method` is its full name."""
        guarded, watch = self.guard(behaviour), self._watch
        if watch is None:
            return guarded
        name = method.removeprefix("/")

        async def measured(request: Any, context: Any) -> Any:
            now = asyncio.get_running_loop().time
            started_s, code = now(), grpc.StatusCode.CANCELLED
            try:
                answer = await guarded(request, context)
                code = context.code() or grpc.StatusCode.OK
            except grpc.aio.AbortError:
                code = context.code()
                raise
            finally:
                watch(name, code.name, now() - started_s)
            return answer

        return measured

    def guard(self, behaviour: Behaviour) -> Behaviour:
        """Return a method that is admitted first, and whose errors become statuses."""

        async def guarded(request: Any, context: Any) -> Any:
            if self._draining:
                self._refused.set()
                await _abort(context, _shutting_down())
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("an RPC runs in a task")
            self._running.add(task)
            try:
                await self._gathering.join()
                return await behaviour(request, context)
            except asyncio.CancelledError:
                if not self._cut_off:
                    raise
                task.uncancel()
                await _abort(context, _shutting_down())
            except Exception as error:  # noqa: BLE001, gRPC would say what it is
                await _refuse(context, error, behaviour)
            finally:
                self._running.discard(task)

        return guarded

    def guard_stream(self, behaviour: Behaviour) -> Behaviour:
        """Return a method that writes to its context, admitted first, and ended when the daemon drains."""

        async def guarded(request: Any, context: Any) -> None:
            if self._draining:
                self._refused.set()
                await _abort(context, _shutting_down())
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("an RPC runs in a task")
            self._streams.add(task)
            try:
                await behaviour(request, context)
            except asyncio.CancelledError:
                if not self._draining:
                    raise
                task.uncancel()
                await _abort(context, _shutting_down())
            except Exception as error:  # noqa: BLE001, gRPC would say what it is
                await _refuse(context, error, behaviour)
            finally:
                self._streams.discard(task)

        return guarded


def _cancelled(tasks: Iterable["asyncio.Task[Any]"]) -> set["asyncio.Task[Any]"]:
    """Cancel tasks and return them."""
    cancelled = set(tasks)
    for task in cancelled:
        task.cancel()
    return cancelled


def _answered(behaviour: Behaviour) -> Behaviour:
    """Return a method whose errors become statuses, and that is admitted at any time."""

    async def answered(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001, gRPC would say what it is
            await _refuse(context, error, behaviour)

    return answered


async def _refuse(context: Any, error: Exception, behaviour: Behaviour) -> None:
    """Let a call end in the status of an error; this raises what gRPC ends a call by."""
    match error:
        case SessionError():
            await _abort(context, error)
        case grpc.aio.AbortError():
            raise error
        case NotImplementedError():  # a method that the protocol has, and this version has not
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this version does not serve that")
        case _:
            log.error("rpc_failed", method=getattr(behaviour, "__qualname__", ""), exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "internal error; the daemon's log has the details")


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Guards every method that takes one request once, the first time it is called; our own API has a gate too."""

    def __init__(self, admission: Admission, gate: Gate) -> None:
        self._admission = admission
        self._gate = gate
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Handler]], handler_call_details: Any
    ) -> Handler:
        """Return the guarded handler of a method."""
        method = handler_call_details.method
        if (known := self._guarded.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        self._guarded[method] = (
            self._stream(method, handler) if handler.response_streaming else self._unary(method, handler)
        )
        return self._guarded[method]

    def _unary(self, method: str, handler: Handler) -> Handler:
        decoded = self._known(method, _decoded(handler.unary_unary, handler))
        always = method.startswith(ALWAYS_ADMITTED)
        admitted = _answered(decoded) if always else self._admission.watched(decoded, method)
        return grpc.unary_unary_rpc_method_handler(admitted, response_serializer=handler.response_serializer)

    def _stream(self, method: str, handler: Handler) -> Handler:
        decoded = self._known(method, _decoded(handler.unary_stream, handler))
        always = method.startswith(ALWAYS_ADMITTED)
        admitted = _answered(decoded) if always else self._admission.guard_stream(decoded)
        return grpc.unary_stream_rpc_method_handler(admitted, response_serializer=_octets(handler.response_serializer))

    def _known(self, method: str, behaviour: Behaviour) -> Behaviour:
        """Return a method of our own API that lets nobody in who has not passed the gate."""
        if not method.startswith(PREFIX):
            return behaviour

        @wraps(behaviour)
        def known(octets: bytes, context: Any) -> Awaitable[Any]:
            self._gate.admit(method, context)
            return behaviour(octets, context)

        return known


def _decoded(method: Behaviour, handler: Handler) -> Behaviour:
    """Return a method that is given octets; gRPC itself has no status but UNKNOWN for those that are no message."""

    @wraps(method)
    def behaviour(octets: bytes, context: Any) -> Awaitable[Any]:
        try:
            request = handler.request_deserializer(octets)
        except DecodeError:
            text = "the request is not the message it should be"
            raise InvalidArgument("MESSAGE_MALFORMED", text) from None
        return method(request, context)

    return behaviour


def _octets(serializer: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    """Return what makes octets of a message; a stream may write octets that it has made for many at once."""
    return lambda message: message if serializer is None or isinstance(message, bytes) else serializer(message)


def _shutting_down() -> Unavailable:
    return Unavailable("SHUTTING_DOWN", "sessiond is shutting down", retry_after_ms=2000)


async def _abort(context: Any, error: SessionError) -> None:
    answer = answer_of(error)
    await context.abort(answer.code, answer.text, answer.metadata)
