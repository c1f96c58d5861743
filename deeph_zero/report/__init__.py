"""One self-contained page about a run, and its plots, from the files of the run alone."""

DEFAULT_MOLECULES = 3
"""Structures that get a close look, with surfaces: a page of them stays under five megabytes."""
