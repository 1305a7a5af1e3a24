"""The tocsin command."""

import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli import alerts, ca, changes, incidents, keys, notifications, receivers, reports, routes, rules, silences
from cli.audit import print_audit_log
from cli.catalog import command as catalog
from cli.client import ExitCode
from cli.completion import use_safe_completion
from cli.credentials import CaFileOption, KeyFileOption, choose_credentials
from cli.demo.command import demo
from cli.events import command as events
from cli.exercise import exercise
from cli.explain import explain_subject
from cli.load import load
from cli.oncall import command as oncall
from cli.output import print_to_stderr, stdout
from cli.routing import command as routing
from cli.send.command import send
from cli.system import show_status, start_system, stop_system
from services.domain.found_values import expected


class TocsinCommand(TyperGroup):
    """Prints usage errors like all other text, since they repeat the arguments, and completes safely."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command, and end the process with its exit code."""
        use_safe_completion()
        try:
            sys.exit(super().main(*args, **options | {"standalone_mode": False}) or ExitCode.DONE)
        except TyperException as error:
            _print_usage_error(error)
            sys.exit(error.exit_code)
        except typer.Abort:
            print_to_stderr("aborted")
            sys.exit(ExitCode.REFUSED)


def _print_usage_error(error: TyperException) -> None:
    context = getattr(error, "ctx", None)
    if context is not None:
        print_to_stderr(context.get_usage())
    # Without arguments the help has been printed, and there is no message. No argument may begin a line of its own.
    # The library's validation begins with a word that says nothing.
    # The words of a choice come one a line, indented by tabs.
    text = _in_own_words(error).replace("\n\t", " ")
    if message := text.replace("\n", "\n  ").replace(": Value error, ", ": ", 1):
        print_to_stderr(message if context is None else f"{context.command_path}: {message}")


def _in_own_words(error: TyperException) -> str:
    """Return the message, of a wrong number with what was found and is expected: the library says less."""
    text = error.format_message()
    if text.startswith("No such option: --json"):
        return "No such option: --json; -o json prints JSON"
    problems: list[Mapping[str, Any]] = getattr(error.__cause__, "errors", list)()
    if not problems or (words := _number_expected(problems[0])) is None:
        return text
    return text.replace(problems[0]["msg"], expected(words, problems[0]["input"]))


def _number_expected(problem: Mapping[str, Any]) -> str | None:
    match problem["type"]:
        case "greater_than_equal":
            return f"at least {problem['ctx']['ge']}"
        case "less_than_equal":
            return f"at most {problem['ctx']['le']}"
        case "int_parsing" | "int_from_float" | "int_parsing_size":
            return "an integer"
        case "float_parsing":
            return "a number"
        case _:
            return None


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 - the library's form
    if is_asked:
        stdout.print(f"tocsin {version('tocsin')}")
        raise typer.Exit


app = typer.Typer(
    name="tocsin",
    cls=TocsinCommand,
    # Of all commands below as well.
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    help="Tocsin watches log streams and notifies the right people once. Exit codes: 0 done, 1 refused, 2 wrong usage, "
    "3 not reachable. TOCSIN_SERVER is the address of Tocsin, TOCSIN_PORT_EDGE its port on this machine; "
    "TOCSIN_KEY_FILE and TOCSIN_CA_FILE are files with the key of the caller and the authority of the server.",
)


@app.callback()
def _common(
    *,
    _is_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    key_file: KeyFileOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Take the options of all commands."""
    choose_credentials(key_file, ca_file)


app.command("up")(start_system)
app.command("down")(stop_system)
app.command("status")(show_status)
app.command()(demo)
app.command()(send)
app.command()(load)
app.command()(exercise)
app.add_typer(events.app, name="events")
app.add_typer(rules.app, name="rules")
app.add_typer(alerts.app, name="alerts")
app.add_typer(incidents.app, name="incidents")
app.add_typer(catalog.app, name="catalog")
app.add_typer(changes.app, name="changes")
app.add_typer(silences.app, name="silences")
app.add_typer(routing.app, name="routing")
app.add_typer(oncall.app, name="oncall")
app.add_typer(notifications.app, name="notifications")
app.add_typer(keys.app, name="keys")
app.command("audit")(print_audit_log)
app.add_typer(receivers.app, name="receivers")
app.add_typer(ca.app, name="ca")
app.add_typer(routes.app, name="routes")
app.command("explain")(explain_subject)
app.command("report")(reports.print_reports)


def main() -> None:
    """Run the command; a crash is printed like all other text, since an exception may quote a log line."""
    try:
        app()
    except Exception:  # noqa: BLE001 - nothing is left to handle it
        print_to_stderr(traceback.format_exc())
        raise SystemExit(ExitCode.REFUSED) from None


if __name__ == "__main__":
    main()
