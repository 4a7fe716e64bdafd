"""Brings boards to a version, one process per port."""
