"""The graph as a tree, for Graphviz and for Mermaid."""

from cli.catalog.drawing import dot_text, mermaid_text, tree_lines
from tocsin.catalog.v1.catalog_service_pb2 import GetServiceGraphResponse
from tocsin.catalog.v1.service_entry_pb2 import GraphEdge, GraphNode

HOSTILE = 'a"b\\n<i>#`\x1b[2J\u202e'


def graph(*edges: str, unknown: str = "") -> GetServiceGraphResponse:
    """Return the graph of edges such as "ab": a depends on b."""
    names = sorted({name for edge in edges for name in edge})
    return GetServiceGraphResponse(
        nodes=[GraphNode(name=name, is_unknown=name in unknown) for name in names],
        edges=[
            GraphEdge(service=a, depends_on=b, origin=GraphEdge.DECLARED, state=GraphEdge.CONFIRMED)
            for a, b in map(tuple, sorted(edges))
        ],
    )


def drawn(found: GetServiceGraphResponse, *roots: str, is_reversed: bool = False) -> str:
    return "\n".join(line.plain for line in tree_lines(found, roots, is_reversed=is_reversed))


def test_a_tree_marks_unknown_services_circles_and_what_is_drawn_already() -> None:
    found = graph("wp", "ps", "pl", "ls", "sd", "lp", "xx", "op", unknown="d")
    assert drawn(found) == (
        "o\n"
        "└── p\n"
        "    ├── l\n"
        "    │   ├── p  ↺ circle\n"
        "    │   └── s\n"
        "    │       └── d  (unknown)\n"
        "    └── s  … see above\n"
        "w\n"
        "└── p  … see above\n"
        "x\n"
        "└── x  ↺ circle"
    )


def test_a_tree_begins_with_the_roots_that_are_asked_for_in_either_direction() -> None:
    found = graph("wp", "ps", "os")
    assert drawn(found, "p") == "p\n└── s"
    assert drawn(found, "s", is_reversed=True) == "s\n├── o\n└── p\n    └── w"
    assert drawn(found, "nobody") == "nobody  (unknown)"
    assert drawn(GetServiceGraphResponse()) == ""


def test_owners_and_what_was_learned_are_named() -> None:
    found = graph("ab", "ac", "ad", "ae")
    found.nodes[1].owner = "team-b"
    found.edges[3].origin, found.edges[3].state = GraphEdge.LEARNED, GraphEdge.CONFIRMED
    found.edges[1].origin, found.edges[1].state = GraphEdge.LEARNED, GraphEdge.STATE_UNSPECIFIED
    found.edges[2].origin, found.edges[2].state = GraphEdge.LEARNED, GraphEdge.IGNORED
    # Declared and learned: declared.
    found.edges.add(service="a", depends_on="b", origin=GraphEdge.LEARNED)
    assert drawn(found).splitlines() == [
        "a",
        "├── b  team-b",
        "├── c  (learned)",
        "├── d  (learned)  (ignored)",
        "└── e  (learned)  (confirmed)",
    ]
    assert dot_text(found).splitlines()[-5:-1] == [
        '  "a" -> "b";',
        '  "a" -> "c" [style=dashed];',
        '  "a" -> "d" [style=dotted, color=gray];',
        '  "a" -> "e";',
    ]
    assert mermaid_text(found).count("s0 --> s1") == 1


def test_a_chain_of_any_length_is_drawn() -> None:
    found = GetServiceGraphResponse(
        nodes=[GraphNode(name=str(n)) for n in range(3000)],
        edges=[GraphEdge(service=str(n), depends_on=str(n + 1)) for n in range(2999)],
    )
    assert len(tree_lines(found)) == 3000


def test_a_graph_of_many_ways_is_drawn_once() -> None:
    """There are 2 to the power of 40 ways from the first to the last one."""
    edges = [(f"{n}", f"{n + 1}{side}") for n in range(40) for side in "ab"]
    edges += [(f"{n + 1}{side}", f"{n + 1}") for n in range(40) for side in "ab"]
    names = sorted({name for edge in edges for name in edge})
    found = GetServiceGraphResponse(
        nodes=[GraphNode(name=name) for name in names],
        edges=[GraphEdge(service=a, depends_on=b) for a, b in edges],
    )
    assert len(tree_lines(found, ["0"])) == len(edges) + 1


def test_the_text_for_graphviz_quotes_names() -> None:
    found = graph("ab", "ac", "ad", unknown="b")
    found.edges[1].origin, found.edges[1].state = GraphEdge.LEARNED, GraphEdge.STATE_UNSPECIFIED
    found.edges[2].state = GraphEdge.IGNORED
    found.nodes.add(name=HOSTILE)
    assert dot_text(found).splitlines()[3:-1] == [
        '  "a";',
        '  "b" [style=dashed];',
        '  "c";',
        '  "d";',
        r'  "a\"b\\n<i>#`\\x1b[2J\\u202e";',
        '  "a" -> "b";',
        '  "a" -> "c" [style=dashed];',
        '  "a" -> "d" [style=dotted, color=gray];',
    ]


def test_the_text_for_mermaid_quotes_names() -> None:
    found = graph("ab", "ac", "ad", unknown="b")
    found.edges[1].origin, found.edges[1].state = GraphEdge.LEARNED, GraphEdge.STATE_UNSPECIFIED
    found.edges[2].state = GraphEdge.IGNORED
    found.nodes.add(name=HOSTILE)
    assert mermaid_text(found) == (
        "graph LR\n"
        '  s0["a"]\n'
        '  s1["b"]:::unknown\n'
        '  s2["c"]\n'
        '  s3["d"]\n'
        '  s4["a#34;b#92;n#60;i#62;#35;#96;#92;x1b[2J#92;u202e"]\n'
        "  s0 --> s1\n"
        "  s0 -.-> s2\n"
        "  s0 -. ignored .-> s3\n"
        "  classDef unknown stroke-dasharray: 4 4"
    )
