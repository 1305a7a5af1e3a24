"""From the wire form of a checked expression to the tree."""

from collections.abc import Mapping
from typing import Any

from services.rule_language.tree import (
    Attribute,
    Call,
    Constant,
    Field,
    HasAttribute,
    Kind,
    Listing,
    Node,
    Opaque,
    Place,
)
from services.rule_language.wire import PRIMITIVES, decode, encode

_KINDS = {kind.value: kind for kind in Kind}
# As the library calls them → as they are written.
_OPERATORS = {
    "_&&_": "&&",
    "_||_": "||",
    "!_": "!",
    "_?_:_": "?:",
    "@in": "in",
    "-_": "negate",
    **{f"_{sign}_": sign for sign in ("==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%")},
}


def tree_of(wire: bytes, constants: Mapping[str, int]) -> Node:
    """Read the tree."""
    return _Reader(decode(wire), constants).root()


def part_of(wire: bytes, node_id: int) -> bytes:
    """The wire form of the part of an expression that has this id."""
    checked = decode(wire)
    part = next(expr for expr in _all(checked.expr) if expr.id == node_id)
    kept = type(part).FromString(part.SerializeToString())
    checked.expr.CopyFrom(kept)
    return encode(checked)


def written(function: str) -> str:
    """A function's name as people write it."""
    return _OPERATORS.get(function, function)


class _Reader:
    """Turns one expression's nodes into ours."""

    def __init__(self, checked: Any, constants: Mapping[str, int]) -> None:
        self._expr = checked.expr
        self._constants = constants
        self._types = {entry.key: PRIMITIVES.get(entry.value.primitive, "") for entry in checked.type_map}
        self._offsets = {entry.key: entry.value for entry in checked.source_info.positions}

    def root(self) -> Node:
        return self._node(self._expr)

    def _node(self, expr: Any) -> Node:
        match expr.WhichOneof("kind"):
            case "const_expr":
                return self._constant(expr)
            case "ident_expr":
                return self._name(expr)
            case "select_expr":
                return self._selected(expr)
            case "call_expr":
                return self._call(expr)
            case "list_expr":
                return Listing(elements=self._nodes(expr.list_expr.elements), place=self._place(expr))
            case _:
                return self._opaque(expr)

    def _nodes(self, exprs: Any) -> tuple[Node, ...]:
        return tuple(self._node(expr) for expr in exprs)

    def _constant(self, expr: Any) -> Node:
        kind = self._kind(expr)
        if kind is Kind.OTHER:
            return self._opaque(expr)
        return Constant(
            value=getattr(expr.const_expr, expr.const_expr.WhichOneof("kind")), kind=kind, place=self._place(expr)
        )

    def _name(self, expr: Any) -> Node:
        name = expr.ident_expr.name
        if name in self._constants:
            return Constant(value=self._constants[name], kind=Kind.INT, place=self._place(expr))
        return Field(name=name, kind=self._kind(expr), place=self._place(expr))

    def _selected(self, expr: Any) -> Node:
        select = expr.select_expr
        if not _is_attributes(select.operand):
            return self._opaque(expr)
        kind = HasAttribute if select.test_only else Attribute
        return kind(key=select.field, place=self._place(expr))

    def _call(self, expr: Any) -> Node:
        call = expr.call_expr
        given = [*([call.target] if call.HasField("target") else []), *call.args]
        match call.function, given:
            case "_[_]", [subject, key] if _is_attributes(subject) and _is_text(key):
                return Attribute(key=key.const_expr.string_value, place=self._place(expr))
            case "@in", [key, subject] if _is_attributes(subject) and _is_text(key):
                return HasAttribute(key=key.const_expr.string_value, place=self._place(expr))
            case _:
                return Call(
                    function=written(call.function),
                    arguments=self._nodes(given),
                    kind=self._kind(expr),
                    place=self._place(expr),
                )

    def _opaque(self, expr: Any) -> Node:
        return Opaque(
            form=_form(expr),
            parts=self._nodes(_below(expr)),
            kind=self._kind(expr),
            place=self._place(expr),
        )

    def _kind(self, expr: Any) -> Kind:
        return _KINDS.get(self._types.get(expr.id, ""), Kind.OTHER)

    def _place(self, expr: Any) -> Place:
        return Place(id=expr.id, offset=self._offsets.get(expr.id, 0))


def _is_attributes(expr: Any) -> bool:
    return bool(expr.WhichOneof("kind") == "ident_expr" and expr.ident_expr.name == "attributes")


def _is_text(expr: Any) -> bool:
    return bool(expr.WhichOneof("kind") == "const_expr" and expr.const_expr.WhichOneof("kind") == "string_value")


def _below(expr: Any) -> list[Any]:
    """The parts of any expression."""
    match expr.WhichOneof("kind"):
        case "select_expr":
            return [expr.select_expr.operand]
        case "call_expr":
            call = expr.call_expr
            return [*([call.target] if call.HasField("target") else []), *call.args]
        case "list_expr":
            return list(expr.list_expr.elements)
        case "struct_expr":
            return [part for entry in expr.struct_expr.entries for part in (entry.map_key, entry.value)]
        case "comprehension_expr":
            loop = expr.comprehension_expr
            return [loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result]
        case _:
            return []


def _all(expr: Any) -> list[Any]:
    return [expr, *(one for part in _below(expr) for one in _all(part))]


def _form(expr: Any) -> str:
    """What an expression is, apart from where it stands and from its parts."""
    match expr.WhichOneof("kind"):
        case "select_expr":
            return f"select {expr.select_expr.test_only} {expr.select_expr.field}"
        case "const_expr":
            return f"constant {expr.const_expr!r}"
        case kind:
            return str(kind)
