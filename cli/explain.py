"""tocsin explain: why people were notified of an alert or an incident, or were not."""

from typing import Annotated

import typer

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, open_channel
from cli.lookup import complete_alert, complete_incident, find_explainable
from cli.output import (
    OutputFormat,
    OutputOption,
    format_timestamp,
    print_message,
    print_table,
    print_whole_table,
    stdout,
)
from cli.routing.command import explain_labels
from tocsin.explanations.v1 import explanation_service_pb2 as service
from tocsin.explanations.v1.explanation_pb2 import Explanation, ExplanationStep, Reference
from tocsin.explanations.v1.explanation_service_pb2_grpc import ExplanationServiceStub


def _complete(incomplete: str) -> list[tuple[str, str]]:
    return [*complete_incident(incomplete), *complete_alert(incomplete)]


def explain_subject(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="ID | NAME=VALUE…",
            help="The id of an alert or an incident, or its beginning; with --labels, an alert's labels.",
            autocompletion=_complete,
        ),
    ],
    *,
    labels: Annotated[
        bool, typer.Option("--labels", help="Show what would happen now to an alert with these labels: team=shop.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Explain why people were notified of an alert or an incident, or were not: step by step, as it was recorded."""
    if labels:
        explain_labels(given, file=None, output=output, server=server)
        return
    if len(given) > 1:
        raise typer.BadParameter("expected one id; labels need --labels")
    with open_channel(server, output) as channel:
        stub = ExplanationServiceStub(channel)
        found, is_incident = find_explainable(channel, given[0], output)
        if is_incident:
            request = service.ExplainIncidentRequest(id=found)
            explanation = stub.ExplainIncident(request, timeout=RPC_TIMEOUT_S).explanation
        else:
            alert_request = service.ExplainAlertRequest(id=found)
            explanation = stub.ExplainAlert(alert_request, timeout=RPC_TIMEOUT_S).explanation
    print_message(explanation, output, lambda: _print_explanation(explanation, wide=output is OutputFormat.WIDE))


def _print_explanation(explanation: Explanation, *, wide: bool) -> None:
    stdout.print(explanation.summary, soft_wrap=True)
    stdout.print()
    rows = [
        [
            format_timestamp(step.time),
            ExplanationStep.Kind.Name(step.kind).lower().replace("_", " "),
            step.text,
            step.decided_by or "-",
            *([", ".join(map(_format_reference, step.references))] if wide else []),
        ]
        for step in explanation.steps
    ]
    columns = ["Time", "What", "What happened", "Decided by", *(["References"] if wide else [])]
    if wide:
        print_table(columns, rows, wide=True)
    else:
        print_whole_table(columns, rows, title="")


def _format_reference(reference: Reference) -> str:
    return f"{Reference.Kind.Name(reference.kind).lower()} {reference.id}"
