"""tocsin exercise: let each part of a system fail under load, and say how long it took and what was lost or doubled.

Theory of operation. A probe is one event with a number of its own, which a rule turns into one alert, of which one
channel is told. Five probes a second are sent all the time, each again until it is accepted. A part has recovered when
a probe that was first sent after the failure has reached the channel. At the end every accepted probe must have one
alert and one delivery: none is lost, two are doubled. Probes count for the failure after which they were sent first.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from cli.client import ExitCode
from cli.exercise.campaign import run_campaign
from cli.exercise.probes import REST_ERRORS
from cli.exercise.replicated import REPLICATED_PARTS, running_replicas
from cli.exercise.report import print_rows
from cli.exercise.single import PARTS, running_single
from cli.output import OutputFormat, OutputOption, print_to_stderr
from stack.console import STACK_ERRORS, print_step, words_of_stack_error
from stack.local_system import default_folder


def exercise(
    *,
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART]...", help=f"Some of: {', '.join(PARTS)}. Without any: all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each part fails.")] = 1,
    replicated: Annotated[
        bool,
        typer.Option(
            "--replicated",
            help="Two instances of each service, three Kafka brokers, two PostgreSQL, Redis under Sentinel and as a "
            f"cluster, one for each manager. The parts are then: {', '.join(REPLICATED_PARTS)}.",
        ),
    ] = False,
    secure: Annotated[
        bool,
        typer.Option("--secure", help="With --replicated: services and Envoys with certificates, callers with a key."),
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Start a system of its own, let its parts fail under load one after the other, and print what came of each.

    Parts are killed; without --replicated a supervisor starts them again. The channel is not killed: it answers 503 for
    three seconds. Exit code 1 when an alert was lost or told twice, when a call of a rolling restart failed, or when
    alerts did not flow again within a minute.
    """
    if secure and not replicated:
        raise typer.BadParameter("expected --replicated beside it", param_hint="--secure")
    known = REPLICATED_PARTS if replicated else PARTS
    chosen = parts or list(known)
    for name in chosen:
        if name not in known:
            raise typer.BadParameter(f'found "{name}", expected some of {", ".join(known)}', param_hint="PART")
    home = default_folder()
    folder = home.with_name(f"{home.name}-exercise")
    report: Callable[[str], None] = (lambda _: None) if output.is_data else print_step
    running = partial(running_replicas, is_secure=secure) if replicated else running_single
    try:
        with running(folder, report) as target:
            rows = run_campaign(target, [*chosen] * rounds, report)
    except (*REST_ERRORS, *STACK_ERRORS) as error:
        print_to_stderr(words_of_stack_error(error))
        raise typer.Exit(ExitCode.REFUSED) from None
    print_rows(rows, output)
    if not all(row.is_well for row in rows):
        print_to_stderr(f"not as it should be; the logs are in {folder / 'logs'}")
        raise typer.Exit(ExitCode.REFUSED)
