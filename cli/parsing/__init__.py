"""Lines of log files become events; pure functions, apart from services and servers."""
