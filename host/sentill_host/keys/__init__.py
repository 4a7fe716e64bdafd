"""The keys of a fleet."""
