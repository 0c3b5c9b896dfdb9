#!/usr/bin/env python3
"""A menu as a phone shows it (USSD), kept in a session.

    examples/ussd_menu.py +15550100001                      the daemon of this machine
    examples/ussd_menu.py +15550100001 --address host:50065

Each line on standard input is what the caller types; 0 hangs up. If this program or the daemon (with Redis) is killed
and started again within the three minutes that the session lasts, the menu goes on where it was.
"""

import argparse
import asyncio
import sys
from typing import Any

from google.protobuf.json_format import MessageToDict

from sessiond.client import Client, Session, connect

TTL_S = 180
BEGIN: dict[str, Any] = {"menu": "main", "balance": 5}


def shown(session: Session) -> str:
    """Return the menu that a caller sees."""
    details = MessageToDict(session.details)
    match details["menu"]:
        case "balance":
            return f"your balance is {details['balance']:.0f}; 9 back, 0 end"
        case "top up":
            return "how much? 0 end"
        case _:
            return "1 balance, 2 top up, 0 end"


def changes(session: Session, typed: str) -> dict[str, Any]:
    """Return what is another when a caller has typed something."""
    details = MessageToDict(session.details)
    match details["menu"], typed:
        case "main", "1":
            return {"menu": "balance"}
        case "main", "2":
            return {"menu": "top up"}
        case "top up", amount if amount.isdigit():
            return {"menu": "balance", "balance": details["balance"] + int(amount)}
        case _:
            return {"menu": "main"}


async def serve(client: Client, msisdn: str) -> None:
    """Show menus until the caller hangs up, or has gone."""
    session = await client.create("ussd", msisdn=msisdn, details=BEGIN, ttl_s=TTL_S, reuse_active=True)
    print(shown(session), flush=True)
    while (line := await asyncio.to_thread(sys.stdin.readline)) and (typed := line.strip()) != "0":
        session = await client.update(session.key, details=changes(session, typed), ttl_s=TTL_S)
        print(shown(session), flush=True)
    await client.end(session.key, message="hung up" if line else "gone")
    print("bye", flush=True)


async def main() -> None:
    """Serve one caller."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("msisdn", help="the phone number, such as +15550100001")
    parser.add_argument("--address", default="127.0.0.1:50065", help="where the daemon listens (default: %(default)s)")
    args = parser.parse_args()
    async with connect(args.address) as client:
        await serve(client, args.msisdn)


if __name__ == "__main__":
    asyncio.run(main())
