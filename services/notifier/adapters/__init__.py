"""The notifier's ports on PostgreSQL, HTTP and SMTP."""
