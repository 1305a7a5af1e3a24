"""A producer whose records are confirmed as soon as their sender waits."""

import asyncio

from services.chassis.failures import StreamUnavailable


class SlowProducer:
    """Confirms what is in flight when the caller waits for it; counts how much that was."""

    def __init__(self, fails_at: int = -1) -> None:
        self.records: list[bytes | None] = []
        self.in_flight = self.most_in_flight = 0
        self._fails_at = fails_at

    def enqueue(self, _topic: str, value: bytes | None, *_: object, **__: object) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number, size = len(self.records), len(value or b"")
        self.records.append(value)
        self.in_flight += size
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

        def confirm() -> None:
            self.in_flight -= size
            if number == self._fails_at:
                future.set_exception(StreamUnavailable("no"))
            else:
                future.set_result(None)

        asyncio.get_running_loop().call_soon(confirm)
        return future
