"""The tocsin command."""

import traceback

import typer

from cli import alerts, notifications, rules
from cli.client import Exit
from cli.demo.command import demo
from cli.output import complain
from cli.send.command import send_file
from cli.system import down, status, up

app = typer.Typer(
    name="tocsin",
    no_args_is_help=True,
    help="Tocsin watches log streams and tells the right people once. Exit codes: 0 done, 1 refused, 2 wrong usage, "
    "3 not reachable. TOCSIN_SERVER says where Tocsin is, TOCSIN_PORT_EDGE on which port of this machine.",
)
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(demo)
app.command("send")(send_file)
app.add_typer(rules.app, name="rules")
app.add_typer(alerts.app, name="alerts")
app.add_typer(notifications.app, name="notifications")


def main() -> None:
    """Run the command. A crash is told like everything else: the words of an exception may be those of a log line."""
    try:
        app()
    except Exception:  # noqa: BLE001 - the last one to hear of it
        complain(traceback.format_exc())
        raise SystemExit(Exit.REFUSED) from None


if __name__ == "__main__":
    main()
