"""Who may call what: the same for all services, whichever way a call came."""
