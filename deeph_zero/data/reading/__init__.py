"""Readers of structure files, one file per family of formats, for ``data/structures.py``."""
