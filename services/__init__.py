"""The services, and what they are mounted on."""
