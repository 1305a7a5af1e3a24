"""Rules and alerts as they change, for everybody who follows them in this instance."""
