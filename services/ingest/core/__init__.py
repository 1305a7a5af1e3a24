"""What ingest decides, as functions of values."""
