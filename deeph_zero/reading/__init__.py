"""Readers of structure files, one file per family of formats; ``structures.py`` is their door."""
