"""The wire form of a checked expression: the few fields of CEL's public `cel.expr.CheckedExpr` that are read here.

No package carries these messages without a hundred megabytes of others, so they are described below. Fields that are
not described survive parsing and serializing.
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_PACKAGE = "tocsin.cel"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}

# Message → (number, name, type), with `*` before the type of a repeated field and `|` before one of a oneof. A map is
# what it is on the wire: repeated entries of key and value.
_MESSAGES: dict[str, list[tuple[int, str, str]]] = {
    "CheckedExpr": [(3, "type_map", "*TypeEntry"), (4, "expr", "Expr"), (5, "source_info", "SourceInfo")],
    "TypeEntry": [(1, "key", "int64"), (2, "value", "Type")],
    "Type": [(3, "primitive", "int32")],
    "SourceInfo": [(4, "positions", "*PositionEntry")],
    "PositionEntry": [(1, "key", "int64"), (2, "value", "int32")],
    "Expr": [
        (2, "id", "int64"),
        (3, "const_expr", "|Constant"),
        (4, "ident_expr", "|Ident"),
        (5, "select_expr", "|Select"),
        (6, "call_expr", "|Call"),
        (7, "list_expr", "|CreateList"),
        (8, "struct_expr", "|CreateStruct"),
        (9, "comprehension_expr", "|Comprehension"),
    ],
    "Constant": [
        (2, "bool_value", "|bool"),
        (3, "int64_value", "|int64"),
        (4, "uint64_value", "|uint64"),
        (5, "double_value", "|double"),
        (6, "string_value", "|string"),
        (7, "bytes_value", "|bytes"),
    ],
    "Ident": [(1, "name", "string")],
    "Select": [(1, "operand", "Expr"), (2, "field", "string"), (3, "test_only", "bool")],
    "Call": [(1, "target", "Expr"), (2, "function", "string"), (3, "args", "*Expr")],
    "CreateList": [(1, "elements", "*Expr")],
    "CreateStruct": [(2, "entries", "*Entry")],
    "Entry": [(3, "map_key", "Expr"), (4, "value", "Expr")],
    "Comprehension": [
        (2, "iter_range", "Expr"),
        (4, "accu_init", "Expr"),
        (5, "loop_condition", "Expr"),
        (6, "loop_step", "Expr"),
        (7, "result", "Expr"),
    ],
}

# Numbers of `cel.expr.Type.PrimitiveType`.
PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}


def _checked_expr() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tocsin/cel.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        message.oneof_decl.add(name="kind")
        for number, field, kind in fields:
            _describe(message.field.add(name=field, number=number), kind)
        if not any(kind.startswith("|") for _, _, kind in fields):
            del message.oneof_decl[:]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.CheckedExpr"))


def _describe(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    field.label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
    if kind.startswith("|"):
        field.oneof_index = 0
    bare = kind.lstrip("*|")
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"


_CheckedExpr = _checked_expr()


def decode(wire: bytes) -> Any:
    """Read a CheckedExpr out of the Any around it."""
    return _CheckedExpr.FromString(any_pb2.Any.FromString(wire).value)


def encode(checked: Any) -> bytes:
    """Put a CheckedExpr into an Any, as `decode` reads it."""
    return any_pb2.Any(
        type_url="type.googleapis.com/cel.expr.CheckedExpr", value=checked.SerializeToString()
    ).SerializeToString()


__all__ = ["PRIMITIVES", "DecodeError", "decode", "encode"]
