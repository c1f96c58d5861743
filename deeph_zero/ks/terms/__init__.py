"""The terms of the energy, one per file, and their sum."""
