"""The syntax tree of a checked expression: small, comparable, and independent of protobuf."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

Scalar = bool | int | float | str


class ValueKind(Enum):
    """The type of a node's value."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    # A list, a map, or what has no type of its own.
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the text a node stands, and its id in the serialized form; equal trees may stand in different places."""

    id: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A literal, or the number of a level's name."""

    value: Scalar
    kind: ValueKind
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRef:
    """A field of the event or a number of the window."""

    name: str
    kind: ValueKind
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """The value of an attribute: `attributes.key` or `attributes["key"]`."""

    key: str
    place: Place = field(compare=False)

    @property
    def kind(self) -> ValueKind:
        """The type of all attributes."""
        return ValueKind.STRING


@dataclass(frozen=True, slots=True, kw_only=True)
class HasAttribute:
    """Whether there is an attribute: `has(attributes.key)` or `"key" in attributes`."""

    key: str
    place: Place = field(compare=False)

    @property
    def kind(self) -> ValueKind:
        """The type of a test."""
        return ValueKind.BOOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function or an operator ("&&", "<=", "?:", "in", "matches", …) with its arguments; a receiver is the first."""

    function: str
    arguments: "tuple[Node, ...]"
    kind: ValueKind
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list literal."""

    elements: "tuple[Node, ...]"
    place: Place = field(compare=False)

    @property
    def kind(self) -> ValueKind:
        """The type of a list."""
        return ValueKind.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """What only CEL itself evaluates; `form` distinguishes two of them."""

    form: str
    parts: "tuple[Node, ...]"
    kind: ValueKind
    place: Place = field(compare=False)


Node = Constant | FieldRef | Attribute | HasAttribute | Call | Listing | Opaque


def children(node: Node) -> "tuple[Node, ...]":
    """Return the nodes right below."""
    match node:
        case Call():
            return node.arguments
        case Listing():
            return node.elements
        case Opaque():
            return node.parts
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it, in the order of the text."""
    yield node
    for child in children(node):
        yield from walk(child)


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the parts that must all be true for the node to be true: what `&&` joins, or the node itself."""
    match node:
        case Call(function="&&", arguments=arguments):
            for argument in arguments:
                yield from conjuncts(argument)
        case _:
            yield node


def names(node: Node) -> frozenset[str]:
    """Return the fields whose values the node depends on."""
    return frozenset(_names(node))


def _names(node: Node) -> Iterator[str]:
    for part in walk(node):
        match part:
            case FieldRef():
                yield part.name
            case Attribute() | HasAttribute():
                yield "attributes"
            case _:
                pass
