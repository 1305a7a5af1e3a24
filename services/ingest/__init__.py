"""Accepts log events: checks them by columns, and answers OK when Kafka has them."""
