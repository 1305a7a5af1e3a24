"""What ingest needs from the world, as it really is: protobuf's wire format and Kafka."""
