"""tocsin catalog: the services, who owns them, and what they depend on."""
