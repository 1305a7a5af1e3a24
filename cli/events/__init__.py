"""tocsin events: look at the events on Kafka."""
