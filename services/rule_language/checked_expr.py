"""Read CEL's checked expressions: from a serialized `cel.expr.CheckedExpr` to the syntax tree, and parts of it."""

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from services.rule_language.protobuf_wire import WireMessage, encode_field
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
)


class _Any(IntEnum):
    """Field numbers of google.protobuf.Any; below, those of the messages of cel.expr."""

    VALUE = 2


class _Checked(IntEnum):
    TYPES = 3
    EXPR = 4
    SOURCE = 5


_SOURCE_POSITIONS = 4
_KEY, _VALUE = 1, 2
_TYPE_PRIMITIVE = 3
# cel.expr.Type.PrimitiveType
_PRIMITIVES = {1: ValueKind.BOOL, 2: ValueKind.INT, 4: ValueKind.DOUBLE, 5: ValueKind.STRING}


class _Expr(IntEnum):
    ID = 2
    CONSTANT = 3
    NAME = 4
    SELECT = 5
    CALL = 6
    LIST = 7
    STRUCT = 8
    LOOP = 9


class _Constant(IntEnum):
    BOOL = 2
    INT = 3
    DOUBLE = 5
    STRING = 6


_NAME_TEXT = 1
_SELECT_OPERAND, _SELECT_FIELD, _SELECT_TEST = 1, 2, 3
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3
_LIST_ELEMENTS = 1
_STRUCT_ENTRIES, _ENTRY_KEY, _ENTRY_VALUE = 2, 3, 4
# iter_var, and iter_range, accu_init, loop_condition, loop_step, result
_LOOP_VARIABLE, _LOOP_RANGE = 1, 2
_LOOP_PARTS = (_LOOP_RANGE, 4, 5, 6, 7)
# The fields of each form that hold other expressions.
_PARTS = {
    _Expr.SELECT: (_SELECT_OPERAND,),
    _Expr.CALL: (_CALL_TARGET, _CALL_ARGUMENTS),
    _Expr.LIST: (_LIST_ELEMENTS,),
    _Expr.LOOP: _LOOP_PARTS,
}
# Types and positions are kept by node id: nodes that are inserted get ids that no other has.
_NEW_ID = 1 << 20

# The library's names of operators → the symbols that people write.
_OPERATORS = {
    "_&&_": "&&",
    "_||_": "||",
    "!_": "!",
    "_?_:_": "?:",
    "@in": "in",
    "-_": "negate",
    **{f"_{sign}_": sign for sign in ("==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%")},
}


def parse_tree(serialized: bytes, constants: Mapping[str, int]) -> Node:
    """Parse the tree; `constants` are names that stand for numbers."""
    return _Reader(_checked(serialized), constants).root()


def extract_part(serialized: bytes, node_id: int) -> bytes:
    """Return the serialized part of an expression that has this id."""
    checked = _checked(serialized)
    part = next(expr for expr in _all_parts(checked.message(_Checked.EXPR)) if expr.integer(_Expr.ID) == node_id)
    return WireMessage(serialized).with_field(_Any.VALUE, checked.with_field(_Checked.EXPR, part.encode()))


def rewrite_to_map(serialized: bytes, names: Collection[str], variable: str) -> bytes:
    """Rewrite an expression so that it reads these variables as entries of one variable, a map."""
    checked = _checked(serialized)
    expr = _rewrite(checked.message(_Checked.EXPR), frozenset(names), variable)
    return WireMessage(serialized).with_field(_Any.VALUE, checked.with_field(_Checked.EXPR, expr))


def _rewrite(expr: WireMessage, names: frozenset[str], variable: str) -> bytes:
    form = _form(expr)
    if form is _Expr.NAME and (name := expr.message(_Expr.NAME).string(_NAME_TEXT)) in names:
        return _entry(variable, name, expr.integer(_Expr.ID) + _NEW_ID)
    inner = expr.message(form)
    # A loop's own variable hides another of its name, except in the loop's range.
    own = inner.string(_LOOP_VARIABLE) if form is _Expr.LOOP else ""

    def changed(number: int, part: bytes) -> bytes:
        return _rewrite(WireMessage(part), names if number == _LOOP_RANGE else names - {own}, variable)

    return expr.with_field(form, inner.with_changed(_PARTS[form], changed)) if form in _PARTS else expr.encode()


def _entry(variable: str, key: str, node_id: int) -> bytes:
    """Serialize an expression that reads one entry of a map variable."""
    name = encode_field(_Expr.ID, node_id + _NEW_ID) + encode_field(
        _Expr.NAME, encode_field(_NAME_TEXT, variable.encode())
    )
    select = encode_field(_SELECT_OPERAND, name) + encode_field(_SELECT_FIELD, key.encode())
    return encode_field(_Expr.ID, node_id) + encode_field(_Expr.SELECT, select)


def operator_symbol(function: str) -> str:
    """Return a function's name as people write it."""
    return _OPERATORS.get(function, function)


class _Reader:
    """Turns the nodes of one expression into those of the syntax tree."""

    def __init__(self, checked: WireMessage, constants: Mapping[str, int]) -> None:
        self._expr = checked.message(_Checked.EXPR)
        self._constants = constants
        self._kinds = {
            entry.integer(_KEY): _PRIMITIVES.get(entry.message(_VALUE).integer(_TYPE_PRIMITIVE), ValueKind.OTHER)
            for entry in checked.messages(_Checked.TYPES)
        }
        self._offsets = {
            entry.integer(_KEY): entry.integer(_VALUE)
            for entry in checked.message(_Checked.SOURCE).messages(_SOURCE_POSITIONS)
        }

    def root(self) -> Node:
        return self._node(self._expr)

    def _node(self, expr: WireMessage) -> Node:
        match _form(expr):
            case _Expr.CONSTANT if self._kind(expr) is not ValueKind.OTHER:
                return self._constant(expr)
            case _Expr.NAME:
                return self._name(expr)
            case _Expr.SELECT if _is_attributes(_operand(expr)):
                return self._attribute(expr)
            case _Expr.CALL:
                return self._call(expr)
            case _Expr.LIST:
                return Listing(elements=self._nodes(_parts(expr)), place=self._place(expr))
            case _:
                return self._opaque(expr)

    def _nodes(self, exprs: Sequence[WireMessage]) -> tuple[Node, ...]:
        return tuple(self._node(expr) for expr in exprs)

    def _constant(self, expr: WireMessage) -> Node:
        constant, kind = expr.message(_Expr.CONSTANT), self._kind(expr)
        match kind:
            case ValueKind.BOOL:
                return Constant(value=bool(constant.integer(_Constant.BOOL)), kind=kind, place=self._place(expr))
            case ValueKind.INT:
                return Constant(value=constant.integer(_Constant.INT), kind=kind, place=self._place(expr))
            case ValueKind.DOUBLE:
                return Constant(value=constant.double(_Constant.DOUBLE), kind=kind, place=self._place(expr))
            case _:
                return Constant(value=constant.string(_Constant.STRING), kind=kind, place=self._place(expr))

    def _name(self, expr: WireMessage) -> Node:
        name = expr.message(_Expr.NAME).string(_NAME_TEXT)
        if name in self._constants:
            return Constant(value=self._constants[name], kind=ValueKind.INT, place=self._place(expr))
        return FieldRef(name=name, kind=self._kind(expr), place=self._place(expr))

    def _attribute(self, expr: WireMessage) -> Node:
        select = expr.message(_Expr.SELECT)
        kind = HasAttribute if select.integer(_SELECT_TEST) else Attribute
        return kind(key=select.string(_SELECT_FIELD), place=self._place(expr))

    def _call(self, expr: WireMessage) -> Node:
        function, arguments = expr.message(_Expr.CALL).string(_CALL_FUNCTION), _parts(expr)
        match function, arguments:
            case "_[_]", [subject, key] if _is_attributes(subject) and _is_string(key):
                return Attribute(key=_string(key), place=self._place(expr))
            case "@in", [key, subject] if _is_attributes(subject) and _is_string(key):
                return HasAttribute(key=_string(key), place=self._place(expr))
            case _:
                return Call(
                    function=operator_symbol(function),
                    arguments=self._nodes(arguments),
                    kind=self._kind(expr),
                    place=self._place(expr),
                )

    def _opaque(self, expr: WireMessage) -> Node:
        return Opaque(
            form=_distinguish(expr), parts=self._nodes(_parts(expr)), kind=self._kind(expr), place=self._place(expr)
        )

    def _kind(self, expr: WireMessage) -> ValueKind:
        return self._kinds.get(expr.integer(_Expr.ID), ValueKind.OTHER)

    def _place(self, expr: WireMessage) -> Place:
        number = expr.integer(_Expr.ID)
        return Place(id=number, offset=self._offsets.get(number, 0))


def _checked(serialized: bytes) -> WireMessage:
    return WireMessage(serialized).message(_Any.VALUE)


def _form(expr: WireMessage) -> _Expr:
    return next((form for form in _Expr if form is not _Expr.ID and expr.has(form)), _Expr.ID)


def _is_attributes(expr: WireMessage) -> bool:
    return expr.message(_Expr.NAME).string(_NAME_TEXT) == "attributes"


def _is_string(expr: WireMessage) -> bool:
    return expr.message(_Expr.CONSTANT).has(_Constant.STRING)


def _string(expr: WireMessage) -> str:
    return expr.message(_Expr.CONSTANT).string(_Constant.STRING)


def _operand(expr: WireMessage) -> WireMessage:
    return expr.message(_Expr.SELECT).message(_SELECT_OPERAND)


def _parts(expr: WireMessage) -> list[WireMessage]:
    """Return the expressions right below an expression."""
    match _form(expr):
        case _Expr.SELECT:
            return [_operand(expr)]
        case _Expr.CALL:
            call = expr.message(_Expr.CALL)
            return [*call.messages(_CALL_TARGET), *call.messages(_CALL_ARGUMENTS)]
        case _Expr.LIST:
            return expr.message(_Expr.LIST).messages(_LIST_ELEMENTS)
        case _Expr.STRUCT:
            entries = expr.message(_Expr.STRUCT).messages(_STRUCT_ENTRIES)
            return [entry.message(part) for entry in entries for part in (_ENTRY_KEY, _ENTRY_VALUE)]
        case _Expr.LOOP:
            return [expr.message(_Expr.LOOP).message(part) for part in _LOOP_PARTS]
        case _:
            return []


def _all_parts(expr: WireMessage) -> list[WireMessage]:
    return [expr, *(one for part in _parts(expr) for one in _all_parts(part))]


def _distinguish(expr: WireMessage) -> str:
    """Return what distinguishes an expression, apart from its place and its parts."""
    match _form(expr):
        case _Expr.SELECT:
            select = expr.message(_Expr.SELECT)
            return f"select {select.integer(_SELECT_TEST)} {select.string(_SELECT_FIELD)}"
        case _Expr.CONSTANT:
            return f"constant {expr.data(_Expr.CONSTANT).hex()}"
        case form:
            return form.name
