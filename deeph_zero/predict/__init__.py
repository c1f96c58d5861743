"""Predictions: certificate, refinement, files."""
