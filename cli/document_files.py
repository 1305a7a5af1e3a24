"""YAML and JSON files that hold things of one kind: a mapping, a list, a key with a list, several documents."""

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer

from cli.client import ExitCode
from cli.output import ErrorDetail, ErrorReport, OutputFormat, print_error
from services.chassis.strict_yaml import load_documents

_SUFFIXES = {".yaml", ".yml", ".json"}


def load_values(path: Path, output: OutputFormat, *, key: str, noun: str, text_mappings: Collection[str]) -> list[Any]:
    """Load the values of a file ("-" is standard input); a document with this key alone has its values there.

    In mappings under the keys in `text_mappings`, values are texts. A file that has no values, or is not YAML, ends the
    command with exit code 2.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        # JSON is a part of YAML, so one parser reads both.
        values = list(_values_of(load_documents(text, text_mappings=text_mappings), key))
    except UnicodeDecodeError:
        reject_file(path, "the file is not text in UTF-8", output=output)
    except OSError as error:
        reject_file(path, (error.strerror or "cannot be read").lower(), output=output)
    except ValueError as error:
        reject_file(path, str(error), output=output)
    if not values:
        reject_file(path, f"the file has no {noun}", output=output)
    return values


def files_of(paths: Sequence[Path], output: OutputFormat) -> list[Path]:
    """Return these files, and in place of a folder its YAML and JSON files by name; one without any is refused."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not inside:
            reject_file(path, "the folder has no YAML or JSON file", output=output)
        files += inside
    return files


def reject_file(path: Path, message: str, details: Sequence[ErrorDetail] = (), *, output: OutputFormat) -> NoReturn:
    """End the command with what is wrong with a file."""
    report = ErrorReport(code="INVALID_ARGUMENT", message=message, details=details)
    print_error(report, output, source=str(path))
    raise typer.Exit(ExitCode.USAGE) from None


def _values_of(documents: Sequence[Any], key: str) -> Iterator[Any]:
    for document in documents:
        if isinstance(document, dict) and list(document) == [key] and isinstance(document[key], list):
            yield from document[key]
        elif isinstance(document, list):
            yield from document
        elif document is not None:
            yield document
