"""LogIngestService: what the four rpcs do with a request before and after its events are published."""
