"""Read YAML and JSON that people write strictly: a duplicate key is an error, so that no value is ignored."""

from collections.abc import Collection, Hashable, Iterator
from itertools import chain
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"
_STRING = "tag:yaml.org,2002:str"
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "timestamp")}
_MAX_KEY_LENGTH = 100
# What the parser complains about, by how its text begins, in words for who writes the file.
_PROBLEMS = (
    (
        "mapping values are not allowed",
        "a colon is not allowed here: look at the indentation, or put the value in quotes",
    ),
    ("could not find expected ':'", "a key without a colon"),
    ("expected <block end>", "this does not belong to what stands above: look at the indentation"),
    ("found character '\\t'", "a tab cannot indent: write spaces"),
    ("found unexpected end of stream", "a quote is not closed"),
    ("expected ',' or ']'", "the list in brackets is not closed, or a comma is missing"),
    ("expected ',' or '}'", "the mapping in braces is not closed, or a comma is missing"),
    ("could not determine a constructor", "tags such as !this have no meaning here"),
    ("found unknown escape character", "in double quotes a backslash is written twice; in single quotes once"),
    ("found undefined alias", "*this stands for what has &this before it: put the value in quotes"),
    ("expected alphabetic or numeric character", "* and & begin a name here: put the value in quotes"),
    ("expected the node content", "a value is missing here"),
    ("found character", "this character cannot begin a value: put the value in quotes"),
)
_NOT_YAML = "this is not YAML"


class DocumentError(ValueError):
    """The text is not valid: line and column, without the text found there, which may be secret."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}")


class DuplicateKeyError(DocumentError):
    """A mapping has the same key twice."""

    def __init__(self, key: object, node: yaml.Node, first: yaml.Node) -> None:
        name = str(key)
        shown = name if len(name) <= _MAX_KEY_LENGTH else name[: _MAX_KEY_LENGTH - 1] + "…"
        first_line = first.start_mark.line + 1
        super().__init__(f'duplicate key "{shown}", first used in line {first_line}', node.start_mark)


class _StrictLoader(yaml.SafeLoader):
    # In mappings under these keys, scalars are the texts that are written there.
    text_mappings: Collection[str] = ()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Before merging: a key may override a merged one.
        self._refuse_duplicates(node)
        super().flatten_mapping(node)
        for key_node, value_node in node.value:
            if isinstance(value_node, yaml.MappingNode) and key_node.value in self.text_mappings:
                self._keep_texts(value_node)

    def _keep_texts(self, node: yaml.MappingNode) -> None:
        for part in chain.from_iterable(node.value):
            if part.tag in _SCALARS:
                part.tag = _STRING

    def _refuse_duplicates(self, node: yaml.MappingNode) -> None:
        nodes: dict[object, yaml.Node] = {}
        for key_node, _ in node.value:
            key = _MERGE if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise DocumentError("a key must be a single value", key_node.start_mark)
            if key in nodes:
                raise DuplicateKeyError(key, key_node, nodes[key])
            nodes[key] = key_node


def load_documents(text: str, *, text_mappings: Collection[str] = ()) -> list[Any]:
    """Return every document of a YAML or JSON text; raise DocumentError.

    In mappings under the keys in `text_mappings`, numbers, booleans and dates are the texts that are written there.
    """
    try:
        loader = _StrictLoader(text)
        loader.text_mappings = text_mappings
        return list(_documents(loader))
    except yaml.reader.ReaderError as error:
        raise DocumentError(_control_character(text, error.position)) from None
    except yaml.YAMLError as error:
        raise DocumentError(_in_words(error), getattr(error, "problem_mark", None)) from None
    except RecursionError:
        raise DocumentError("the document is nested too deeply") from None


def _control_character(text: str, position: int) -> str:
    before = text[:position].split("\n")
    return f"line {len(before)}, column {len(before[-1]) + 1}: a control character, which is not allowed here"


def _in_words(error: yaml.YAMLError) -> str:
    problem = str(getattr(error, "problem", None))
    return next((words for start, words in _PROBLEMS if problem.startswith(start)), _NOT_YAML)


def _documents(loader: _StrictLoader) -> Iterator[Any]:
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]
            yield loader.get_data()
    finally:
        loader.dispose()
