"""The loops: notifications in from Kafka, deliveries out through each channel."""
