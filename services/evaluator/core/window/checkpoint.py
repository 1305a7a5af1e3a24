"""From where a partition of `window-partials` is resumed, and its form as metadata of a committed offset."""

import json
from dataclasses import asdict, dataclass
from typing import Any

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotName:
    """Where a snapshot of the partition is: the first and the last offset of its records on `window-snapshots`.

    The id is that of its content. It has what comes of the records of `window-partials` before `position`.
    """

    id: str
    first: int
    last: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """From where, and with what, a new owner resumes a partition exactly.

    Reading begins at `offset`, the oldest record that an open window needs, or at the position of the snapshot if that
    can be read. Records before `position` were judged already; `watermark_ns` says which windows were closed by then.
    `owner` names who wrote the groups' states.
    """

    offset: int
    position: int
    watermark_ns: int | None
    owner: str = ""
    snapshot: SnapshotName | None = None

    @property
    def usable_snapshot(self) -> SnapshotName | None:
        """The snapshot, unless it is of a later position than was judged, or of an earlier one than the offset."""
        is_usable = self.snapshot is not None and self.offset <= self.snapshot.position <= self.position
        return self.snapshot if is_usable else None

    @property
    def start(self) -> int:
        """Where reading begins if the snapshot can be read; without one, at the offset."""
        return self.offset if self.usable_snapshot is None else self.usable_snapshot.position


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Encode a checkpoint as the metadata of its committed offset."""
    fields: dict[str, object] = {
        "v": _VERSION,
        "position": checkpoint.position,
        "watermark": checkpoint.watermark_ns,
        "owner": checkpoint.owner,
    }
    if checkpoint.snapshot is not None:
        # Former versions do not know it, and read from the offset on.
        fields["snapshot"] = asdict(checkpoint.snapshot)
    return json.dumps(fields)


def decode_checkpoint(offset: int, metadata: str) -> Checkpoint:
    """Decode the metadata of a committed offset; when it is absent or of another version, judge all records anew."""
    try:
        fields = json.loads(metadata) if metadata else {}
        if fields.get("v") == _VERSION:
            return Checkpoint(
                offset=offset,
                position=int(fields["position"]),
                watermark_ns=fields["watermark"],
                # Former versions wrote no owner.
                owner=str(fields.get("owner", "")),
                snapshot=_snapshot_name(fields.get("snapshot")),
            )
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return Checkpoint(offset=offset, position=offset, watermark_ns=None)


def _snapshot_name(fields: Any) -> SnapshotName | None:
    try:
        return SnapshotName(
            id=str(fields["id"]),
            first=int(fields["first"]),
            last=int(fields["last"]),
            position=int(fields["position"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
