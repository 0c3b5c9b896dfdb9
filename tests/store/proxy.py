"""A TCP proxy that fails on demand: it cuts, delays, swallows, answers wrongly or closes by half."""

import asyncio
import ssl
from typing import Self

from hiredis import Reader


class FaultProxy:
    """Stands between a client and a server on 127.0.0.1; towards the client it may speak TLS.

    `lose_reply` makes it fail once; the other faults last until `heal`.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.delay_s = 0.0
        self.error = b""
        """Said to every command, in place of what the server would say."""
        self.heard = asyncio.Event()
        """Set by every request."""
        self._server_port = port
        self._tls = tls
        self._swallow = False
        self._lose = b""
        self._refuse = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """How the store is told where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.close()
        self.cut()

    def cut(self, *, refuse: bool = False) -> None:
        """Cut every connection; with `refuse`, new ones too."""
        self._refuse = refuse
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow(self) -> None:
        """Let requests through and keep all replies."""
        self._swallow = True

    def lose_reply(self, to: bytes) -> None:
        """Lose the reply to the next request that has these octets in it, and cut its connection."""
        self._lose = to

    def half_close(self) -> None:
        """Say to the clients that nothing more will come, and go on listening to them."""
        for writer in list(self._writers):
            writer.write_eof()
        self._swallow = True

    def heal(self) -> None:
        """Be a good proxy again."""
        self._refuse, self._swallow, self._lose, self.delay_s, self.error = False, False, b"", 0.0, b""
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuse:
            writer.transport.abort()
            return
        there = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, there[1]}
        lost = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(reader, there[1], writer, lost))
                group.create_task(self._backward(there[0], writer, lost))
        except* (OSError, RuntimeError):  # cut, or half closed
            pass
        finally:
            self._writers -= {writer, there[1]}
            writer.transport.abort()
            there[1].transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        lost: asyncio.Event,
    ) -> None:
        """Carry requests to the server."""
        parser = Reader()
        while octets := await reader.read(1 << 16):
            self.heard.set()
            if self.error:
                parser.feed(octets)
                while parser.gets() is not False:
                    back.write(self.error + b"\r\n")
                continue
            if self._lose and self._lose in octets:
                self._lose = b""
                lost.set()
            writer.write(octets)
        writer.transport.abort()

    async def _backward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        """Carry replies to the client."""
        while octets := await reader.read(1 << 16):
            if lost.is_set():
                break
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not self._swallow:
                writer.write(octets)
        writer.transport.abort()
