"""The way of events to Kafka: single events wait for others, and memory bounds the bytes in flight."""
