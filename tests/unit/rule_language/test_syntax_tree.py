import pytest

from services.rule_language.checking import check_filter
from services.rule_language.environment import parse_double, parse_int, quotient
from services.rule_language.protobuf_wire import WireMessage
from services.rule_language.syntax_tree import (
    Attribute,
    Call,
    Constant,
    FieldRef,
    HasAttribute,
    Listing,
    Node,
    Opaque,
    Place,
    ValueKind,
    walk,
)

ANYWHERE = Place(id=0, offset=0)
LEVEL = FieldRef(name="level", kind=ValueKind.INT, place=ANYWHERE)
HOST = FieldRef(name="host", kind=ValueKind.STRING, place=ANYWHERE)


def constant(value: bool | float | str, kind: ValueKind) -> Constant:  # noqa: FBT001 - a literal of the language
    return Constant(value=value, kind=kind, place=ANYWHERE)


def call(function: str, *arguments: Node, kind: ValueKind = ValueKind.BOOL) -> Call:
    return Call(function=function, arguments=arguments, kind=kind, place=ANYWHERE)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("true", constant(value=True, kind=ValueKind.BOOL)),
        ("level >= ERROR", call(">=", LEVEL, constant(5, ValueKind.INT))),
        ("level == -3", call("==", LEVEL, constant(-3, ValueKind.INT))),
        ("level < 0.25", call("<", LEVEL, constant(0.25, ValueKind.DOUBLE))),
        ("level < 0.0", call("<", LEVEL, constant(0.0, ValueKind.DOUBLE))),
        ('host == ""', call("==", HOST, constant("", ValueKind.STRING))),
        ('host == "é"', call("==", HOST, constant("é", ValueKind.STRING))),
        ('host.matches("a")', call("matches", HOST, constant("a", ValueKind.STRING))),
        ("has(attributes.a)", HasAttribute(key="a", place=ANYWHERE)),
        ('"a.b" in attributes', HasAttribute(key="a.b", place=ANYWHERE)),
        ("attributes.a == host", call("==", Attribute(key="a", place=ANYWHERE), HOST)),
        ('attributes["a"] == host', call("==", Attribute(key="a", place=ANYWHERE), HOST)),
        ("-level > 1", call(">", call("negate", LEVEL, kind=ValueKind.INT), constant(1, ValueKind.INT))),
        ("level in [1]", call("in", LEVEL, Listing(elements=(constant(1, ValueKind.INT),), place=ANYWHERE))),
    ],
)
def test_the_tree_of_an_expression(text: str, tree: Node) -> None:
    assert check_filter(text).tree == tree


def test_what_only_cel_evaluates_is_distinguished() -> None:
    texts = [
        'attributes.exists(key, key == "a")',
        'attributes.exists(key, key == "b")',
        'attributes.all(key, key == "a")',
        '"a" in {"a": "1"}',
        '"a" in {"a": "2"}',
        '"a" in {"b": "1"}',
        '[b"1"].exists(one, true)',
        '[b"2"].exists(one, true)',
        '{"c": "d"}.c == host',
        '{"c": "d"}.e == host',
        'has({"c": "d"}.e)',
    ]
    trees = [check_filter(text).tree for text in texts]
    assert len(set(trees)) == len(texts)
    assert all(any(isinstance(node, Opaque) for node in walk(tree)) for tree in trees)


def test_every_node_has_a_kind() -> None:
    expression = check_filter("has(attributes.a) && attributes.b in [host] && level in [1, 2]")
    kinds = {type(node): node.kind for node in walk(expression.tree)}
    assert kinds[HasAttribute] is ValueKind.BOOL
    assert kinds[Attribute] is ValueKind.STRING
    assert kinds[Listing] is ValueKind.OTHER


def test_a_node_knows_its_place() -> None:
    tree = check_filter('true\n&& host == "x"').tree
    assert {node.place.offset for node in walk(tree)} == {0, 5, 8, 13, 16}


def test_fields_of_fixed_size_are_skipped() -> None:
    message = WireMessage(b"\x0d\x01\x02\x03\x04" + b"\x10\x96\x01" + b"\x1a\x02hi")
    assert (message.integer(2), message.string(3), message.data(2), message.integer(9)) == (150, "hi", b"", 0)
    assert message.with_field(3, b"x" * 200) == b"\x0d\x01\x02\x03\x04\x10\x96\x01\x1a\xc8\x01" + b"x" * 200


@pytest.mark.parametrize(
    ("dividend", "divisor", "expected"),
    [(1.0, 4.0, "0.25"), (1.0, 0.0, "inf"), (1.0, -0.0, "-inf"), (-1.0, 0.0, "-inf"), (0.0, 0.0, "nan")],
)
def test_doubles_divide_by_zero_as_ieee_754_does(dividend: float, divisor: float, expected: str) -> None:
    assert str(quotient(dividend, divisor)) == expected


def test_strings_are_parsed_as_numbers() -> None:
    assert (parse_int("12"), parse_int("x"), parse_int("1.5")) == (12, None, None)
    assert (parse_double("12"), parse_double("x"), parse_double("-1.5e3")) == (12.0, None, -1500.0)
