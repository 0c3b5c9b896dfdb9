"""The command line of `sessionctl`: what there is to type; what is then done is imported when it is needed."""

from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sessiond.sessionctl.main import COMPLETE

if TYPE_CHECKING:
    from sessiond.sessionctl.running import Work

app = typer.Typer(
    name="sessionctl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How sessions are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
Where = Annotated[
    str, typer.Argument(metavar="[FILTER]", help="Which sessions, such as 'state = ACTIVE AND type = ussd'.")
]
Key = Annotated[str, typer.Argument(help="The key of the session.")]
Details = Annotated[str, typer.Option("--details", metavar="JSON", help="Details as a JSON object.")]
Set = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="One detail; the value is JSON, or text.")]
Ttl = Annotated[str, typer.Option("--ttl", metavar="DURATION", help="Expire after so long, such as 90s, 15m or 1.5h.")]
Etag = Annotated[str, typer.Option("--etag", help="Refuse if the session has changed since it had this etag.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"sessionctl {version('sessiond')}")
        raise typer.Exit


@app.callback()
def connection(
    context: typer.Context,
    address: Annotated[
        str, typer.Option(envvar="SESSIOND_ADDRESS", metavar="HOST:PORT", help="Where the daemon listens.")
    ] = "127.0.0.1:50065",
    token: Annotated[str, typer.Option(envvar="SESSIOND_TOKEN", metavar="TOKEN", help="What proves who you are.")] = "",
    tls: Annotated[bool, typer.Option("--tls", envvar="SESSIOND_TLS", help="Encrypt the connection.")] = False,
    ca: Annotated[
        Path | None, typer.Option(envvar="SESSIOND_CA", help="PEM file of the authority to trust; implies --tls.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(envvar="SESSIOND_CERTIFICATE", help="PEM file to show; implies --tls.")
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="SESSIOND_KEY", help="PEM file with the key of it.")] = None,
    server_name: Annotated[str, typer.Option(help="The name in the daemon's certificate, if it is not its host.")] = "",
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long a call may take.")] = 10.0,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Look at the sessions of a sessiond, and change them."""
    context.obj = {
        "address": address,
        "token": token,
        "tls": tls,
        "ca": ca,
        "certificate": certificate,
        "key": key,
        "server_name": server_name,
        "timeout_s": timeout,
    }


@app.command("list")
def list_(
    context: typer.Context,
    where: Where = "",
    order: Annotated[str, typer.Option(help="A field, perhaps with desc.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List sessions."""
    from sessiond.sessionctl import commands

    _run(context, commands.list_sessions(where, order, limit, output))


@app.command()
def get(context: typer.Context, key: Key, output: Output = Format.TABLE) -> None:
    """Show a session; this does not count as use of it."""
    from sessiond.sessionctl import commands

    _run(context, commands.get(key, output))


@app.command()
def create(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="ussd, voice, sms, payment, execution, peer, ...")],
    key: Annotated[str, typer.Option(help="The key it is to have.")] = "",
    msisdn: Annotated[str, typer.Option(help="Phone number, such as +15550100001.")] = "",
    identifier: Annotated[str, typer.Option(help="A name for people.")] = "",
    namespace: Annotated[str, typer.Option(help="The namespace it is to belong to.")] = "",
    data_source: Annotated[str, typer.Option(help="Its producer.")] = "",
    ttl: Ttl = "",
    details: Details = "",
    set_: Set = [],  # noqa: B006 - typer makes a new one
    reuse_active: Annotated[bool, typer.Option("--reuse-active", help="Show the active one if there is one.")] = False,
    leave_inactive: Annotated[bool, typer.Option("--leave-inactive", help="Do not activate it.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a session, and print it."""
    from sessiond.sessionctl import commands

    given = {"key": key, "msisdn": msisdn, "identifier": identifier, "namespace": namespace, "data_source": data_source}
    fields = commands.fields_of(given, ttl, details, set_)
    _run(context, commands.create(kind, fields, output, reuse_active=reuse_active, leave_inactive=leave_inactive))


@app.command()
def update(
    context: typer.Context,
    key: Key,
    identifier: Annotated[str | None, typer.Option(help="Its new name for people.")] = None,
    ttl: Ttl = "",
    details: Details = "",
    set_: Set = [],  # noqa: B006 - typer makes a new one
    unset: Annotated[list[str], typer.Option(metavar="NAME", help="Remove a detail.")] = [],  # noqa: B006
    etag: Etag = "",
    output: Output = Format.TABLE,
) -> None:
    """Change a session, and print it; details that are not named stay."""
    from sessiond.sessionctl import commands

    fields = commands.fields_of({"identifier": identifier}, ttl, details, set_)
    _run(context, commands.update(key, fields, unset, etag, output))


@app.command()
def end(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="[KEY]...", help="The keys of sessions.")] = [],  # noqa: B006
    where: Annotated[str, typer.Option("--filter", metavar="FILTER", help="End all that this means.")] = "",
    message: Annotated[str, typer.Option(help="Why, in words.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many are ended.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """End sessions, and print them as they are then; one that has ended stays as it is."""
    from sessiond.sessionctl import commands

    if bool(keys) == bool(where):
        raise typer.BadParameter("name sessions by their keys, or by --filter")
    _run(context, commands.end(keys, where, message, output, yes=yes))


@app.command()
def watch(
    context: typer.Context,
    where: Where = "",
    kind: Annotated[
        list[str], typer.Option(metavar="KIND", help="CREATED, UPDATED, CLOSED, ...; all if not given.")
    ] = [],  # noqa: B006
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Begin with the sessions that there are.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Begin with the oldest event that is kept.")] = False,
    since: Annotated[str, typer.Option(metavar="TOKEN", help="Go on after an event whose token this is.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Print what happens to sessions, as it happens, until Ctrl-C."""
    from sessiond.sessionctl import commands

    kinds = [name.upper() for name in kind]
    work = commands.watch(where, kinds, since, output, snapshot=snapshot, history=history)
    _run(context, work, endless=True)


@app.command()
def top(
    context: typer.Context,
    where: Where = "",
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.2, help="How often to look.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once; so it is without a terminal.")] = False,
) -> None:
    """Show how many sessions there are and which were used last, live, until Ctrl-C."""
    from sessiond.sessionctl import top as screen

    _run(context, screen.top(where, interval, once=once), endless=True)


@app.command()
def timeline(
    context: typer.Context,
    key: Key,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Tell what happened to a session, as far as it is kept, and what it waits for."""
    from sessiond.sessionctl import timeline as story

    _run(context, story.timeline(key, output, follow=follow), endless=follow)


@app.command()
def stats(context: typer.Context, where: Where = "", output: Output = Format.TABLE) -> None:
    """Count sessions by state and type, and add up their traffic."""
    from sessiond.sessionctl import commands

    _run(context, commands.stats(where, output))


@app.command()
def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Show how the daemon is: its store, its peers, what it still has to tell."""
    from sessiond.sessionctl import commands

    _run(context, commands.status(output))


class Shell(StrEnum):
    """What a completion is for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Shell) -> None:
    """Print what makes a shell complete this command: `source <(sessionctl completion bash)`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # its home has an underscore

    typer.echo(get_completion_script(prog_name="sessionctl", complete_var=COMPLETE, shell=shell))


def _run(context: typer.Context, work: "Work", *, endless: bool = False) -> None:
    """Do the work with a client, and leave with what it comes to; what is endless ends well by Ctrl-C."""
    from sessiond.sessionctl.running import run

    raise typer.Exit(run(context.obj, work, endless=endless))
