"""tocsin events tail: the events on `log-events`, whatever form their records have."""

import os
from collections.abc import Mapping
from itertools import islice
from typing import Annotated

import typer

from cli.client import ExitCode
from cli.events.event_lines import print_event
from cli.events.log_records import KafkaUnreachableError, LogRecords, NoTopicError
from cli.output import (
    ErrorDetail,
    ErrorReport,
    OutputFormat,
    OutputOption,
    print_error,
    print_to_stderr,
)
from services.rule_language.checking import Expression, check_filter
from services.rule_language.diagnostics import ExpressionError
from stack.ports import Ports
from stack.program import StartError
from stack.topics import tool_settings

app = typer.Typer(no_args_is_help=True, help="See the events on Kafka.")


def default_kafka(environ: Mapping[str, str] = os.environ) -> str:
    """Return the address of Kafka on this machine, on the port of TOCSIN_PORT_KAFKA."""
    return f"127.0.0.1:{environ.get('TOCSIN_PORT_KAFKA') or Ports().kafka}"


KafkaOption = Annotated[
    str,
    typer.Option(
        "--kafka",
        envvar="TOCSIN_KAFKA",
        help="Kafka's bootstrap servers, host:port, separated by commas. Without it: TOCSIN_KAFKA, else 127.0.0.1 on "
        "the port of TOCSIN_PORT_KAFKA.",
    ),
]
PrefixOption = Annotated[
    str, typer.Option("--topic-prefix", help="The prefix of all topics' names, as INGEST_TOPIC_PREFIX has it.")
]
BeginningOption = Annotated[
    bool, typer.Option("--from-beginning", help="Begin with the oldest event that Kafka still has, and then follow.")
]
FilterOption = Annotated[
    str, typer.Option("--filter", help="Only events for which this is true: CEL as in a rule's filter, level >= ERROR.")
]
CountOption = Annotated[int | None, typer.Option("--limit", min=1, help="End after so many events.")]
DEFAULT_KAFKA = default_kafka()


@app.command("tail")
def tail_events(
    *,
    from_beginning: BeginningOption = False,
    filter_text: FilterOption = "",
    limit: CountOption = None,
    output: OutputOption = OutputFormat.TABLE,
    kafka: KafkaOption = DEFAULT_KAFKA,
    topic_prefix: PrefixOption = "",
) -> None:
    """Print the events that ingest accepted, as they arrive, until Ctrl-C.

    They are read from Kafka, without an effect on the services; each partition comes in its own order.

    A line for people has time (UTC), level, service and message, with -o wide all fields.
    JSON comes as one event a line, as the REST interface takes it.
    """
    # Slow to import, and not needed by the other commands.
    from cli.events.decoding import selected_events  # noqa: PLC0415

    expression = _checked(filter_text, output)

    def notice(text: str) -> None:
        print_to_stderr(f"{kafka}: {text}")

    try:
        records = LogRecords(tool_settings(kafka, topic_prefix), notice)
    except StartError as error:
        print_error(ErrorReport(code="INVALID_ARGUMENT", message=str(error)), output, source="the environment")
        raise typer.Exit(ExitCode.USAGE) from None
    try:
        records.start(from_beginning=from_beginning)
        for event in islice(selected_events(records.follow(), expression, notice), limit):
            print_event(event, output)
    except KafkaUnreachableError as error:
        print_error(ErrorReport(code="UNAVAILABLE", message=str(error)), output, source=kafka)
        raise typer.Exit(ExitCode.UNREACHABLE) from None
    except NoTopicError as error:
        print_error(ErrorReport(code="NOT_FOUND", message=str(error)), output, source=kafka)
        raise typer.Exit(ExitCode.REFUSED) from None
    except KeyboardInterrupt:
        raise typer.Exit from None
    finally:
        records.close()


def _checked(text: str, output: OutputFormat) -> Expression | None:
    if not text:
        return None
    try:
        return check_filter(text)
    except ExpressionError as error:
        detail = ErrorDetail(field="filter", description=str(error))
        print_error(
            ErrorReport(code="INVALID_ARGUMENT", message="not allowed", details=[detail]), output, source="--filter"
        )
        raise typer.Exit(ExitCode.USAGE) from None
