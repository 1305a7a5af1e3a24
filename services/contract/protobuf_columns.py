"""Protobuf messages read as Arrow columns, by ptars."""

from collections.abc import Sequence

import ptars
import pyarrow as pa
from google.protobuf.descriptor import Descriptor

from services.contract.arrow_streams import UnreadableColumnsError

# What Python sees of a panic in Rust. It is no Exception, and no module has its name.
_PANIC = "PanicException"


class ProtobufColumns:
    """Reads messages of one type: a row for each, a column for each field."""

    def __init__(self, message: Descriptor) -> None:
        self._rows = ptars.HandlerPool([message.file]).get_for_message(message)

    def read(self, messages: Sequence[bytes]) -> pa.RecordBatch:
        """Return the messages as columns. Raises UnreadableColumnsError where one of them cannot be read."""
        try:
            batch: pa.RecordBatch = self._rows.list_to_record_batch(messages)
        except BaseException as error:
            # ptars panics where a length is absurd.
            if isinstance(error, ValueError) or type(error).__name__ == _PANIC:
                raise UnreadableColumnsError("expected protobuf messages") from error
            raise
        return batch
