"""The suite of the official Python SDK, group by group."""
