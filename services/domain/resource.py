"""What is in trouble, in one word."""

from collections.abc import Sequence


def resource_of(group_by: Sequence[str], values: Sequence[str]) -> str:
    """The value itself for one field, "service=a,host=b" for several, "all" without grouping.

    Commas, equals signs and backslashes of several fields are escaped, so different groups never look the same.
    Raises ValueError when names and values are not of the same number.
    """
    if len(group_by) != len(values):
        raise ValueError(f"{len(group_by)} fields but {len(values)} values")
    if not group_by:
        return "all"
    if len(group_by) == 1:
        return values[0]
    return ",".join(f"{_escaped(name)}={_escaped(value)}" for name, value in zip(group_by, values, strict=True))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
