"""The loops: notifications come in from Kafka, deliveries go out through each channel."""
