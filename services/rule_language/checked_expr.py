"""From the wire form of a checked expression, `cel.expr.CheckedExpr`, to the tree."""

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from services.rule_language import protobuf_wire as on_wire
from services.rule_language.protobuf_wire import Message
from services.rule_language.syntax_tree import (
    Attribute,
    Call,
    Constant,
    Field,
    HasAttribute,
    Listing,
    Node,
    Opaque,
    Place,
    ValueKind,
)


class _Any(IntEnum):
    """Numbers of fields: google.protobuf.Any, and below the messages of cel.expr."""

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
# In which fields of a form other expressions stand.
_PARTS = {
    _Expr.SELECT: (_SELECT_OPERAND,),
    _Expr.CALL: (_CALL_TARGET, _CALL_ARGUMENTS),
    _Expr.LIST: (_LIST_ELEMENTS,),
    _Expr.LOOP: _LOOP_PARTS,
}
# What is known of a node hangs on its id: nodes that are put in have ids that no other has.
_NEW_ID = 1 << 20

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
    """Read the tree; `constants` are names that stand for numbers."""
    return _Reader(_checked(wire), constants).root()


def part_of(wire: bytes, node_id: int) -> bytes:
    """The wire form of the part of an expression that has this id."""
    checked = _checked(wire)
    part = next(expr for expr in _all(checked.message(_Checked.EXPR)) if expr.integer(_Expr.ID) == node_id)
    return Message(wire).replaced(_Any.VALUE, checked.replaced(_Checked.EXPR, part.on_the_wire()))


def read_from_map(wire: bytes, names: Collection[str], variable: str) -> bytes:
    """The wire form of the expression that reads these variables as entries of one, a map."""
    checked = _checked(wire)
    expr = _read_from_map(checked.message(_Checked.EXPR), frozenset(names), variable)
    return Message(wire).replaced(_Any.VALUE, checked.replaced(_Checked.EXPR, expr))


def _read_from_map(expr: Message, names: frozenset[str], variable: str) -> bytes:
    form = _form(expr)
    if form is _Expr.NAME and (name := expr.message(_Expr.NAME).text(_NAME_TEXT)) in names:
        return _entry(variable, name, expr.integer(_Expr.ID) + _NEW_ID)
    inner = expr.message(form)
    # A loop's own variable hides another of its name, except in what the loop goes over.
    own = inner.text(_LOOP_VARIABLE) if form is _Expr.LOOP else ""

    def changed(number: int, part: bytes) -> bytes:
        return _read_from_map(Message(part), names if number == _LOOP_RANGE else names - {own}, variable)

    return expr.replaced(form, inner.mapped(_PARTS[form], changed)) if form in _PARTS else expr.on_the_wire()


def _entry(variable: str, key: str, node_id: int) -> bytes:
    """An expression that is one entry of a map variable."""
    name = on_wire.written(_Expr.ID, node_id + _NEW_ID) + on_wire.written(
        _Expr.NAME, on_wire.written(_NAME_TEXT, variable.encode())
    )
    select = on_wire.written(_SELECT_OPERAND, name) + on_wire.written(_SELECT_FIELD, key.encode())
    return on_wire.written(_Expr.ID, node_id) + on_wire.written(_Expr.SELECT, select)


def written(function: str) -> str:
    """A function's name as people write it."""
    return _OPERATORS.get(function, function)


class _Reader:
    """Turns one expression's nodes into ours."""

    def __init__(self, checked: Message, constants: Mapping[str, int]) -> None:
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

    def _node(self, expr: Message) -> Node:
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
                return Listing(elements=self._nodes(_below(expr)), place=self._place(expr))
            case _:
                return self._opaque(expr)

    def _nodes(self, exprs: Sequence[Message]) -> tuple[Node, ...]:
        return tuple(self._node(expr) for expr in exprs)

    def _constant(self, expr: Message) -> Node:
        literal, kind = expr.message(_Expr.CONSTANT), self._kind(expr)
        match kind:
            case ValueKind.BOOL:
                return Constant(value=bool(literal.integer(_Constant.BOOL)), kind=kind, place=self._place(expr))
            case ValueKind.INT:
                return Constant(value=literal.integer(_Constant.INT), kind=kind, place=self._place(expr))
            case ValueKind.DOUBLE:
                return Constant(value=literal.double(_Constant.DOUBLE), kind=kind, place=self._place(expr))
            case _:
                return Constant(value=literal.text(_Constant.STRING), kind=kind, place=self._place(expr))

    def _name(self, expr: Message) -> Node:
        name = expr.message(_Expr.NAME).text(_NAME_TEXT)
        if name in self._constants:
            return Constant(value=self._constants[name], kind=ValueKind.INT, place=self._place(expr))
        return Field(name=name, kind=self._kind(expr), place=self._place(expr))

    def _attribute(self, expr: Message) -> Node:
        select = expr.message(_Expr.SELECT)
        kind = HasAttribute if select.integer(_SELECT_TEST) else Attribute
        return kind(key=select.text(_SELECT_FIELD), place=self._place(expr))

    def _call(self, expr: Message) -> Node:
        function, given = expr.message(_Expr.CALL).text(_CALL_FUNCTION), _below(expr)
        match function, given:
            case "_[_]", [subject, key] if _is_attributes(subject) and _is_text(key):
                return Attribute(key=_text(key), place=self._place(expr))
            case "@in", [key, subject] if _is_attributes(subject) and _is_text(key):
                return HasAttribute(key=_text(key), place=self._place(expr))
            case _:
                return Call(
                    function=written(function),
                    arguments=self._nodes(given),
                    kind=self._kind(expr),
                    place=self._place(expr),
                )

    def _opaque(self, expr: Message) -> Node:
        return Opaque(
            form=_apart(expr), parts=self._nodes(_below(expr)), kind=self._kind(expr), place=self._place(expr)
        )

    def _kind(self, expr: Message) -> ValueKind:
        return self._kinds.get(expr.integer(_Expr.ID), ValueKind.OTHER)

    def _place(self, expr: Message) -> Place:
        number = expr.integer(_Expr.ID)
        return Place(id=number, offset=self._offsets.get(number, 0))


def _checked(wire: bytes) -> Message:
    return Message(wire).message(_Any.VALUE)


def _form(expr: Message) -> _Expr:
    return next((form for form in _Expr if form is not _Expr.ID and expr.has(form)), _Expr.ID)


def _is_attributes(expr: Message) -> bool:
    return expr.message(_Expr.NAME).text(_NAME_TEXT) == "attributes"


def _is_text(expr: Message) -> bool:
    return expr.message(_Expr.CONSTANT).has(_Constant.STRING)


def _text(expr: Message) -> str:
    return expr.message(_Expr.CONSTANT).text(_Constant.STRING)


def _operand(expr: Message) -> Message:
    return expr.message(_Expr.SELECT).message(_SELECT_OPERAND)


def _below(expr: Message) -> list[Message]:
    """The parts of any expression."""
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


def _all(expr: Message) -> list[Message]:
    return [expr, *(one for part in _below(expr) for one in _all(part))]


def _apart(expr: Message) -> str:
    """What an expression is, apart from where it stands and from its parts."""
    match _form(expr):
        case _Expr.SELECT:
            select = expr.message(_Expr.SELECT)
            return f"select {select.integer(_SELECT_TEST)} {select.text(_SELECT_FIELD)}"
        case _Expr.CONSTANT:
            return f"constant {expr.data(_Expr.CONSTANT).hex()}"
        case form:
            return form.name
