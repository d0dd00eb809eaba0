"""Readable training loops that compute by a policy."""
