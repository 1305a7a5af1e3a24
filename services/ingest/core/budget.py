"""How many bytes may be on their way to Kafka at once."""


class Budget:
    """Counts the bytes that were taken and not yet given back; never more than `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes on their way."""
        return self._taken

    def take(self, size: int) -> bool:
        """Take `size` bytes if they fit; False, and nothing taken, when they do not."""
        if self._taken + size > self._limit:
            return False
        self._taken += size
        return True

    def give_back(self, size: int) -> None:
        """Return what was taken before."""
        if size > self._taken:
            raise ValueError(f"{size} bytes given back, but only {self._taken} taken")
        self._taken -= size
