"""tocsin routing: who is notified of which alerts."""
