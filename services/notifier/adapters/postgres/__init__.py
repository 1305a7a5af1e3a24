"""Deliveries in PostgreSQL: one module for each port, which holds its whole statements."""
