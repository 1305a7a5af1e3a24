"""The console of all commands: a text is a text, whoever wrote it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from services.chassis.printable import printable_lines


class Terminal(Console):
    """Interprets nothing in a text, neither markup nor emoji codes; colours come from styles.

    Each text passes `render` on its way out, whatever object it stands in, and leaves it without a character that a
    terminal obeys. Strings are cleaned before that as well, so that widths are those of what is shown.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Give the pieces that are written; those with `control` are the library's own."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable_lines(piece.text), piece.style)

    def render_str(self, text: str, **options: Any) -> Text:
        """Give the text that a string is shown as."""
        return super().render_str(printable_lines(text), **options)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show what is being done; a string is a text here too."""
        return super().status(Text(status) if isinstance(status, str) else status, **options)
