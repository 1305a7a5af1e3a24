"""What every service is mounted on; knows nothing about alerts."""
