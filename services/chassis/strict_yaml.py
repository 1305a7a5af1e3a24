"""Read YAML and JSON that people write strictly: a duplicate key is an error, so that no value is ignored."""

from collections.abc import Hashable
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_MAX_KEY_LENGTH = 100


class DocumentError(ValueError):
    """The text is not valid; `place` is line and column, without the text found there, which may be secret."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None) -> None:
        self.place = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "somewhere"
        super().__init__(f"{self.place}: {problem}")


class DuplicateKeyError(DocumentError):
    """A mapping has the same key twice."""

    def __init__(self, key: object, node: yaml.Node, first: yaml.Node) -> None:
        name = str(key)
        shown = name if len(name) <= _MAX_KEY_LENGTH else name[: _MAX_KEY_LENGTH - 1] + "…"
        first_line = first.start_mark.line + 1
        super().__init__(f'duplicate key "{shown}", first used in line {first_line}', node.start_mark)


class _StrictLoader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Before merging: a key may override a merged one.
        self._refuse_duplicates(node)
        super().flatten_mapping(node)

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        nodes: dict[object, yaml.Node] = {}
        for key_node, _ in node.value:
            key = _MERGE if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise DocumentError("a key must be a single value", key_node.start_mark)
            if key in nodes:
                raise DuplicateKeyError(key, key_node, nodes[key])
            nodes[key] = key_node


def load_documents(text: str) -> list[Any]:
    """Return every document of a YAML or JSON text; raise DocumentError."""
    try:
        return list(yaml.load_all(text, _StrictLoader))
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "this is not YAML"
        raise DocumentError(problem, getattr(error, "problem_mark", None)) from None
    except RecursionError:
        raise DocumentError("the document is nested too deeply") from None
