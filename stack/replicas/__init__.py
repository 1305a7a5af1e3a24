"""Servers and services that stand more than once on one machine, for tests and exercises of failover."""
