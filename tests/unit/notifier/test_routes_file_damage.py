"""Laws of routes files that nobody wrote on purpose: they are read, or refused with problems that show no secret."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.core.routes_file import RoutesError
from services.notifier.settings import load_routes
from tests.fuzz.messages import damaged
from tests.unit.notifier.routes_documents import ENVIRON, EXAMPLE, SECRETS, document, read

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place of a document: the mapping or list, and the key or index."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from places(value)


def refusal(problems: list[str]) -> None:
    assert problems
    text = "\n".join(problems)
    assert not any(ENVIRON[name] in text for name in SECRETS)
    assert "Traceback" not in text


@given(seed=st.integers(0, 1 << 32))
def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(damaged(Random(seed), EXAMPLE.read_bytes()))  # noqa: S311  (nothing secret)
    try:
        load_routes(path, ENVIRON)
    except RoutesError as error:
        refusal(error.problems)


@given(data=st.data(), value=VALUES)
def test_a_file_with_another_value_anywhere_is_read_or_refused(data: st.DataObject, value: object) -> None:
    changed = document()
    node, key = data.draw(st.sampled_from(list(places(changed))))
    node[key] = value
    try:
        read(changed)
    except RoutesError as error:
        refusal(error.problems)


def test_the_example_has_places_and_secrets() -> None:
    assert len(list(places(document()))) > len(SECRETS)
    assert all(len(ENVIRON[name]) > len("secret") for name in SECRETS)
