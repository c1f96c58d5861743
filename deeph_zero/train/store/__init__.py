"""Integrals of many geometries within a stated memory: kept, spilled to disk, fetched ahead."""
