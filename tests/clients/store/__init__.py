"""Clients of the object gateway: what its users' own libraries show of it."""
