"""The four kinds of channel, each with one method: send."""
