"""Text that PostgreSQL takes: anything but the character NUL, which log lines and clients may well contain."""


def storable(text: str) -> str:
    """The text with U+FFFD for each NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
