"""What the notifier decides, as functions of values."""
