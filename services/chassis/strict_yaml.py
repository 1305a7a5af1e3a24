"""YAML and JSON that people write: read strictly, so that nothing in it is passed over."""

from collections.abc import Hashable
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_SHOWN = 100


class DocumentError(ValueError):
    """A text that cannot be read; `place` says where, without repeating what stands there."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None) -> None:
        self.place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
        super().__init__(f"{self.place}: {problem}")


class DuplicateKeyError(DocumentError):
    """A mapping has the same key twice, so that one of the two values would be passed over."""

    def __init__(self, key: object, node: yaml.Node, first: yaml.Node) -> None:
        shown = str(key)
        cut = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        first_line = first.start_mark.line + 1
        super().__init__(f'the key "{cut}" stands there twice; first in line {first_line}', node.start_mark)


class _StrictLoader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Before what is merged in: that may be overridden.
        self._refuse_duplicates(node)
        super().flatten_mapping(node)

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        seen: dict[object, yaml.Node] = {}
        for key_node, _ in node.value:
            key = _MERGE if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise DocumentError("a key must be a single value", key_node.start_mark)
            if key in seen:
                raise DuplicateKeyError(key, key_node, seen[key])
            seen[key] = key_node


def load_documents(text: str) -> list[Any]:
    """Every document in a text of YAML, of which JSON is a part. Raises DocumentError."""
    try:
        return list(yaml.load_all(text, _StrictLoader))
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "this is not YAML"
        raise DocumentError(problem, getattr(error, "problem_mark", None)) from None
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
