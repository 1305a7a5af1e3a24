"""tocsin catalog: the services, who owns them, and what they depend on."""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Annotated

import typer

from cli.catalog.apply import all_services, apply_services
from cli.catalog.drawing import dot_text, mermaid_text, tree_lines
from cli.catalog.edges import edges_app
from cli.catalog.entries import written_fields
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, open_channel
from cli.output import (
    OutputFormat,
    OutputOption,
    format_cell,
    format_timestamp,
    json_of,
    print_data,
    print_fields,
    print_message,
    print_table,
    stdout,
)
from services.contract.paging import MAX_PAGE_SIZE
from tocsin.catalog.v1 import catalog_service_pb2 as service
from tocsin.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge, ServiceEntry

app = typer.Typer(no_args_is_help=True, help="Describe services: owners, links, dependencies.")

ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="The service's name, as in its events.")]


class GraphFormat(StrEnum):
    """How the graph is printed."""

    TREE = "tree"
    DOT = "dot"
    MERMAID = "mermaid"
    JSON = "json"


app.command("apply")(apply_services)
app.add_typer(edges_app, name="edges")


@app.command("list")
def list_services(
    *,
    owner: Annotated[str, typer.Option("--owner", help="Only services of this owner.")] = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show all services."""
    with open_channel(server, output) as channel:
        services = all_services(CatalogServiceStub(channel), owner=owner)
    if output.is_data:
        print_data([json_of(each) for each in services], output)
        return
    print_table(
        ["Name", "Owner", "Tier", "Depends on", "Description"],
        [
            [each.name, each.owner or "-", each.tier or "-", ", ".join(each.depends_on) or "-", each.description]
            for each in services
        ],
        cut={"Depends on", "Description"},
        wide=output is OutputFormat.WIDE,
    )


@app.command("show")
def show_service(
    name: ServiceName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show one service, and which services depend on it; of learned dependencies that they are learned."""
    with open_channel(server, output) as channel:
        stub = CatalogServiceStub(channel)
        found = stub.GetService(service.GetServiceRequest(name=name), timeout=RPC_TIMEOUT_S).service
        edges = _read_graph(stub, name, depth=1).edges
    print_message(found, output, lambda: print_fields(dict(_shown_fields(found, edges))))


@app.command("graph")
def show_graph(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only around this service.")] = "",
    *,
    depth: Annotated[int, typer.Option("--depth", min=1, max=20, help="How many edges away from the service.")] = 20,
    is_reversed: Annotated[
        bool, typer.Option("--dependents", help="Draw what depends on a service, not what it depends on.")
    ] = False,
    form: Annotated[
        GraphFormat, typer.Option("--format", "-f", help="A tree, or text for Graphviz, Mermaid or programs.")
    ] = GraphFormat.TREE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Draw what services depend on.

    A circle is cut and marked; a service without an entry is marked as unknown, and what was learned as learned.
    """
    output = OutputFormat.JSON if form is GraphFormat.JSON else OutputFormat.TABLE
    with open_channel(server, output) as channel:
        graph = _read_graph(CatalogServiceStub(channel), name, depth=depth if name else 0)
    texts: dict[GraphFormat, Callable[[service.GetServiceGraphResponse], str]] = {
        GraphFormat.DOT: dot_text,
        GraphFormat.MERMAID: mermaid_text,
    }
    if form is GraphFormat.JSON:
        graph.ClearField("next_page_token")
        print_data({key: value for key, value in json_of(graph).items() if key != "nextPageToken"}, output)
    elif form in texts:
        stdout.print(texts[form](graph), soft_wrap=True)
    else:
        for line in tree_lines(graph, [name] if name else [], is_reversed=is_reversed):
            stdout.print(line, soft_wrap=True)


@app.command("export")
def export_services(output: OutputOption = OutputFormat.YAML, server: ServerOption = DEFAULT_SERVER) -> None:
    """Print all services as YAML, or JSON, as `catalog apply` takes them."""
    form = output if output.is_data else OutputFormat.YAML
    with open_channel(server, form) as channel:
        services = all_services(CatalogServiceStub(channel))
    fields = [written_fields(json_of(each)) for each in services]
    print_data({"services": [{name: value for name, value in each.items() if value} for each in fields]}, form)


@app.command("delete")
def delete_service(
    name: ServiceName, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Delete a service. Others may go on to depend on it; it is then unknown."""
    with open_channel(server, output) as channel:
        CatalogServiceStub(channel).DeleteService(service.DeleteServiceRequest(name=name), timeout=RPC_TIMEOUT_S)
    if output.is_data:
        print_data({"name": name, "deleted": True}, output)
    else:
        stdout.print(format_cell(f"deleted {name}"))


def _read_graph(stub: CatalogServiceStub, name: str, *, depth: int) -> service.GetServiceGraphResponse:
    """Return all pages of the graph as one."""
    graph = service.GetServiceGraphResponse()
    request = service.GetServiceGraphRequest(service=name, depth=depth, page_size=MAX_PAGE_SIZE)
    while True:
        page = stub.GetServiceGraph(request, timeout=RPC_TIMEOUT_S)
        request.page_token = page.next_page_token
        graph.MergeFrom(page)
        if not request.page_token:
            return graph


def _shown_fields(entry: ServiceEntry, edges: Iterable[GraphEdge]) -> Iterator[tuple[str, object]]:
    yield "Name", entry.name
    yield "Owner", entry.owner
    yield "Tier", entry.tier
    yield "Description", entry.description
    yield from ((f"Link {name}", address) for name, address in sorted(entry.links.items()))
    yield "Labels", dict(entry.labels)
    # An ignored dependency is none. What is declared is said once, though it was learned too.
    followed = sorted(
        (edge for edge in edges if edge.state != GraphEdge.IGNORED), key=lambda edge: edge.origin, reverse=True
    )
    depends_on = {
        edge.depends_on: _with_origin(edge.depends_on, edge) for edge in followed if edge.service == entry.name
    }
    needed_by = {edge.service: _with_origin(edge.service, edge) for edge in followed if edge.depends_on == entry.name}
    yield "Depends on", [depends_on[name] for name in sorted(depends_on)]
    yield "Needed by", [needed_by[name] for name in sorted(needed_by)]
    yield "Created", format_timestamp(entry.create_time)
    yield "Changed", format_timestamp(entry.update_time)


def _with_origin(name: str, edge: GraphEdge) -> str:
    return f"{name} (learned)" if edge.origin == GraphEdge.LEARNED else name
