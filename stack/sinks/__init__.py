"""Local receivers of all channels, which speak the vendors' real protocols: for tests and for the demo."""

from stack.sinks.journal import Behaviour
from stack.sinks.server import Sinks, running_sinks

__all__ = ["Behaviour", "Sinks", "running_sinks"]
