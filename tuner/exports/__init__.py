"""Configurations as programs of the user's own: scripts that need nothing of this service."""
