"""How far the output partitions have the current block of a source, as metadata of its committed offset."""

import json
from dataclasses import asdict, dataclass

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBlock:
    """What was sent, and acknowledged, of a block that begins at `start`.

    It says something only of rows that the same rules (`selections`) make, and that go to as many output partitions.
    """

    start: int
    up_to: int
    outputs: int
    selections: str


def encode_sent(sent: SentBlock) -> str:
    """Encode it as the metadata of the committed offset."""
    return json.dumps({"v": _VERSION, **asdict(sent)})


def sent_up_to(metadata: str, *, start: int, outputs: int, selections: str) -> int:
    """Return up to which offset rows of this block need not be sent again; its start where that is not known."""
    try:
        fields = json.loads(metadata)
        up_to = int(fields["up_to"])
        known = SentBlock(start=start, up_to=up_to, outputs=outputs, selections=selections)
        return up_to if fields == {"v": _VERSION, **asdict(known)} else start
    except (ValueError, TypeError, KeyError):
        # Former versions, and whoever sets the group's offsets by hand, commit offsets alone.
        return start
