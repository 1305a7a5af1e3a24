"""What the manager needs from the world."""
