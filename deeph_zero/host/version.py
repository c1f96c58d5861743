"""The version of this package, which every file it writes names."""

__version__ = "0.1.0"
