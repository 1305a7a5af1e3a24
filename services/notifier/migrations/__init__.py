"""The schema `notifier`, revision by revision."""
