"""The canary: an event that the manager sends through the whole pipe, to measure how long alerts take."""

from typing import Final

# Reserved: an event of this service does not move event time, and nobody is notified of it.
CANARY_SERVICE: Final = "tocsin-canary"
