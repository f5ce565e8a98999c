"""Replays a capture to a gateway: readers of captures, and the player."""
