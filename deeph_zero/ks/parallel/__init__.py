"""Work shared among threads, and functions recorded to run without Python."""
