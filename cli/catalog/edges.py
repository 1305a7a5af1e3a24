"""tocsin catalog edges: dependencies that are learned from traces, and what people say of them."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from cli.alerts import ActorOption
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.output import (
    OutputFormat,
    OutputOption,
    format_short_timestamp,
    format_styled,
    format_timestamp,
    json_of,
    print_data,
    print_message,
    print_table,
    stdout,
)
from tocsin.catalog.v1 import learned_edge_service_pb2 as service
from tocsin.catalog.v1.learned_edge_service_pb2_grpc import LearnedEdgeServiceStub
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge

edges_app = typer.Typer(
    no_args_is_help=True, help="Dependencies that are learned from traces: list, confirm, ignore them."
)

_STYLE = {"confirmed": "green", "ignored": "dim"}
_COLUMNS = ["Service", "Depends on", "State", "Support", "Confidence", "Last seen", "By"]

DependentName = Annotated[str, typer.Argument(metavar="SERVICE", help="The service that depends on the other one.")]
DependencyName = Annotated[str, typer.Argument(metavar="DEPENDS_ON", help="The service that it depends on.")]


class EdgeStateChoice(StrEnum):
    """What people say of a learned dependency, as values of an option."""

    LEARNED = "learned"
    CONFIRMED = "confirmed"
    IGNORED = "ignored"

    @property
    def value_in_contract(self) -> GraphEdge.State.ValueType:
        """Return the contract's value."""
        return GraphEdge.STATE_UNSPECIFIED if self is self.LEARNED else GraphEdge.State.Value(self.name)


_CHOICES = {choice.value_in_contract: choice.value for choice in EdgeStateChoice}


@edges_app.command("list")
def list_edges(
    service_name: Annotated[
        str, typer.Argument(metavar="[SERVICE]", help="Only dependencies of this service, or on it.")
    ] = "",
    *,
    states: Annotated[
        list[EdgeStateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only those in this state; may be repeated."),
    ] = None,
    include_weak: Annotated[
        bool, typer.Option("--weak", help="Also those that were not seen often or clearly enough to count.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show learned dependencies, in the order of their services."""
    request = service.ListLearnedEdgesRequest(
        service=service_name, states=[state.value_in_contract for state in states or []], include_weak=include_weak
    )
    with open_channel(server, output) as channel:
        call = LearnedEdgeServiceStub(channel).ListLearnedEdges
        edges: list[service.LearnedEdge] = list_rows(call, request, lambda page: page.edges, limit=limit)
    if output.is_data:
        print_data([json_of(edge) for edge in edges], output)
    else:
        _print_edges(edges, output)


@edges_app.command("confirm")
def confirm_edge(
    dependent: DependentName,
    dependency: DependencyName,
    *,
    actor: ActorOption,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Confirm a learned dependency: it counts like a declared one, also when it is not seen any more."""
    request = service.ConfirmLearnedEdgeRequest(
        service=dependent, depends_on=dependency, actor=actor, request_id=new_request_id()
    )
    with open_channel(server, output) as channel:
        response = LearnedEdgeServiceStub(channel).ConfirmLearnedEdge(request, timeout=RPC_TIMEOUT_S)
    _print_decided(response.edge, output, "It was confirmed before." if response.unchanged else "")


@edges_app.command("ignore")
def ignore_edge(
    dependent: DependentName,
    dependency: DependencyName,
    *,
    actor: ActorOption,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Ignore a learned dependency: it is shown as ignored, and nothing else heeds it."""
    request = service.IgnoreLearnedEdgeRequest(
        service=dependent, depends_on=dependency, actor=actor, request_id=new_request_id()
    )
    with open_channel(server, output) as channel:
        response = LearnedEdgeServiceStub(channel).IgnoreLearnedEdge(request, timeout=RPC_TIMEOUT_S)
    _print_decided(response.edge, output, "It was ignored before." if response.unchanged else "")


def _print_decided(edge: service.LearnedEdge, output: OutputFormat, note: str) -> None:
    print_message(edge, output, lambda: _print_edges([edge], output))
    if note and not output.is_data:
        stdout.print(note)


def _print_edges(edges: list[service.LearnedEdge], output: OutputFormat) -> None:
    is_wide = output is OutputFormat.WIDE
    rows: list[list[str | Text]] = [
        [
            edge.service,
            edge.depends_on,
            format_styled(_state_of(edge), _STYLE),
            f"{edge.support:.0f}",
            f"{edge.confidence:.0%}",
            format_timestamp(edge.last_seen_time) if is_wide else format_short_timestamp(edge.last_seen_time),
            edge.actor or "-",
        ]
        for edge in edges
    ]
    print_table(_COLUMNS, rows, wide=is_wide, cut={"Service", "Depends on"})


def _state_of(edge: service.LearnedEdge) -> str:
    is_weak = edge.state == GraphEdge.STATE_UNSPECIFIED and not edge.is_supported
    return "weak" if is_weak else _CHOICES.get(edge.state, "-")
