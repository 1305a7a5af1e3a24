"""What only reads: pages and followers."""
