"""Sentill: the sensor node inside a payment terminal."""

__version__ = "0.1.0"
