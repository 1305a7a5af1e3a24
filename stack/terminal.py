"""The console of all commands: it prints text as it is, whoever wrote it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from services.chassis.printable import printable_lines


class Terminal(Console):
    """Interprets nothing in a text, neither markup nor emoji codes; colours come from styles.

    Every printed text, of whatever object, passes `render`, which replaces control characters. Strings are cleaned
    before that as well, so that widths are those of the printed text.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments to write; those with `control` are the library's own."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable_lines(piece.text), piece.style)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text to print for a string."""
        return super().render_str(printable_lines(text), **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a status line; a string is plain text here too."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)
