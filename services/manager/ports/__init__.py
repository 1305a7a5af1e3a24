"""What the manager needs from the world: commands and queries apart."""
