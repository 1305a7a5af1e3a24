"""Copies are what dataclasses.replace makes."""

from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from services.domain.values import replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    name: str
    count: int = 1
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    name: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count is negative")


@dataclass(frozen=True)
class Loose:
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Single:
    name: str


@pytest.mark.parametrize("value", [Plain(name="a"), Checked(name="a", count=1), Loose("a", 1), Single("a")])
def test_a_copy_has_the_changes_and_leaves_the_value_as_it_is(value: Plain | Checked | Loose | Single) -> None:
    for _ in range(2):
        copied = replaced(value, name="b")
        assert type(copied) is type(value)
        assert copied == replace(value, name="b")
        assert value.name == "a"
    with pytest.raises(FrozenInstanceError):
        copied.name = "c"  # type: ignore[misc]


def test_a_value_that_checks_itself_does_so() -> None:
    with pytest.raises(ValueError, match="count is negative"):
        replaced(Checked(name="a", count=1), count=-1)


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="Plain has no field 'size'"):
        replaced(Plain(name="a"), size=1)
