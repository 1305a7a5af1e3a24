"""Local ends of all channels that speak the vendors' real protocols: for tests, and for the demo as one process."""

from stack.sinks.certificates import Certificate, certificate
from stack.sinks.journal import Behaviour, Delivery, Journal
from stack.sinks.running import Sinks, running_sinks

__all__ = ["Behaviour", "Certificate", "Delivery", "Journal", "Sinks", "certificate", "running_sinks"]
