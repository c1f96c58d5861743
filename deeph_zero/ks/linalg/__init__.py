"""Eigenvalues, purification, packed matrices and factors: linear algebra without physics."""
