"""Kohn-Sham theory without labels."""

__version__ = "0.1.0"
