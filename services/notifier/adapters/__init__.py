"""The notifier's ends in the world."""
