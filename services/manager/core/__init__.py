"""Pure decisions of the manager: no I/O, no clock."""
