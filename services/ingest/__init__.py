"""Takes log events in: checks them by columns and hands them to Kafka before it says yes."""
