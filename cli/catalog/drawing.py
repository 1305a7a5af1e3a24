"""The graph of dependencies as text: a tree for the terminal, Graphviz, Mermaid.

Names come from files and events: Graphviz and Mermaid get them quoted, and none has characters that a terminal obeys.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from services.chassis.printable import printable
from tocsin.catalog.v1.catalog_service_pb2 import GetServiceGraphResponse
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge, GraphNode

# How Mermaid writes characters that mean something to it, or to HTML.
_MERMAID = {char: f"#{ord(char)};" for char in '#"&<>`\\'}
_STATE_NOTES = {GraphEdge.IGNORED: ("ignored",), GraphEdge.CONFIRMED: ("confirmed",)}


@dataclass(frozen=True, slots=True)
class _Step:
    """A service in the tree: by what edge, its place among its neighbours, and the services on the way to it."""

    name: str
    notes: tuple[str, ...]
    indent: str
    branch: str
    way: frozenset[str]


def tree_lines(graph: GetServiceGraphResponse, roots: Sequence[str] = (), *, is_reversed: bool = False) -> list[Text]:
    """Draw the services that each root depends on, or with `is_reversed` those that depend on it, one a line.

    Without roots the tree begins with all services that no other one depends on, and with one of each circle that only
    its own services depend on. A circle is cut where it closes. What a service depends on is drawn once.
    """
    nodes = {node.name: node for node in graph.nodes}
    edges = _neighbours(graph, is_reversed=is_reversed)
    drawn: set[str] = set()
    lines: list[Text] = []
    for root in roots or _roots(nodes, edges):
        if roots or root not in drawn:
            lines += _draw(root, nodes, edges, drawn)
    return lines


def dot_text(graph: GetServiceGraphResponse) -> str:
    """Return the graph in Graphviz' language."""
    lines = ["digraph services {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    lines += [f"  {_dot_id(node.name)}{' [style=dashed]' if node.is_unknown else ''};" for node in graph.nodes]
    lines += [f"  {_dot_id(edge.service)} -> {_dot_id(edge.depends_on)}{_dot_style(edge)};" for edge in _edges(graph)]
    return "\n".join([*lines, "}"])


def mermaid_text(graph: GetServiceGraphResponse) -> str:
    """Return the graph in Mermaid's language."""
    ids = {node.name: f"s{index}" for index, node in enumerate(graph.nodes)}
    lines = ["graph LR"]
    lines += [
        f'  {ids[node.name]}["{_mermaid_label(node.name)}"]{":::unknown" if node.is_unknown else ""}'
        for node in graph.nodes
    ]
    lines += [f"  {ids[edge.service]} {_mermaid_arrow(edge)} {ids[edge.depends_on]}" for edge in _edges(graph)]
    return "\n".join([*lines, "  classDef unknown stroke-dasharray: 4 4"])


def _draw(
    root: str, nodes: Mapping[str, GraphNode], edges: Mapping[str, Mapping[str, tuple[str, ...]]], drawn: set[str]
) -> Iterator[Text]:
    # A stack, since a chain of services may be longer than Python's own.
    stack = [_Step(root, (), "", "", frozenset())]
    while stack:
        step = stack.pop()
        others = edges.get(step.name, {})
        is_circle = step.name in step.way
        is_repeated = step.name in drawn and bool(others) and not is_circle
        yield _line(step, nodes.get(step.name), is_circle=is_circle, is_repeated=is_repeated)
        if is_circle or is_repeated:
            continue
        drawn.add(step.name)
        indent = step.indent + {"": "", "├── ": "│   ", "└── ": "    "}[step.branch]
        steps = [_Step(name, notes, indent, "├── ", step.way | {step.name}) for name, notes in others.items()]
        if steps:
            last = steps[-1]
            steps[-1] = _Step(last.name, last.notes, indent, "└── ", last.way)
        stack += reversed(steps)


def _line(step: _Step, node: GraphNode | None, *, is_circle: bool, is_repeated: bool) -> Text:
    line = Text(step.indent + step.branch, style="dim")
    line.append(printable(step.name), style="not dim")
    if node is not None and node.owner:
        line.append(f"  {printable(node.owner)}", style="dim")
    if node is None or node.is_unknown:
        line.append("  (unknown)", style="not dim yellow")
    for note in step.notes:
        line.append(f"  ({note})", style="dim")
    if is_circle:
        line.append("  ↺ circle", style="not dim red")
    if is_repeated:
        line.append("  … see above", style="dim")
    return line


def _neighbours(graph: GetServiceGraphResponse, *, is_reversed: bool) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return for each service those that its edges lead to, in the order of their names, with notes on the edge."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for edge in _edges(graph):
        start, end = (edge.depends_on, edge.service) if is_reversed else (edge.service, edge.depends_on)
        found.setdefault(start, {})[end] = _notes(edge)
    return found


def _edges(graph: GetServiceGraphResponse) -> Iterable[GraphEdge]:
    """Return the edges in the order of their names; of a dependency that was declared and learned, the declared one."""
    ordered = sorted(graph.edges, key=lambda edge: (edge.service, edge.depends_on, -edge.origin))
    return {(edge.service, edge.depends_on): edge for edge in ordered}.values()


def _notes(edge: GraphEdge) -> tuple[str, ...]:
    if edge.origin != GraphEdge.LEARNED:
        return ()
    return ("learned", *_STATE_NOTES.get(edge.state, ()))


def _roots(nodes: Mapping[str, GraphNode], edges: Mapping[str, Mapping[str, tuple[str, ...]]]) -> list[str]:
    """Return the services to begin with: those that no edge leads to, then all others, of which most are drawn then."""
    led_to = {name for others in edges.values() for name in others}
    return [*(name for name in nodes if name not in led_to), *(name for name in nodes if name in led_to)]


def _dot_id(name: str) -> str:
    text = printable(name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _dot_style(edge: GraphEdge) -> str:
    if edge.state == GraphEdge.IGNORED:
        return " [style=dotted, color=gray]"
    return " [style=dashed]" if _is_doubtful(edge) else ""


def _mermaid_label(name: str) -> str:
    return "".join(_MERMAID.get(char, char) for char in printable(name))


def _mermaid_arrow(edge: GraphEdge) -> str:
    if edge.state == GraphEdge.IGNORED:
        return "-. ignored .->"
    return "-.->" if _is_doubtful(edge) else "-->"


def _is_doubtful(edge: GraphEdge) -> bool:
    return edge.origin == GraphEdge.LEARNED and edge.state != GraphEdge.CONFIRMED
