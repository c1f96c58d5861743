"""The O(3)-equivariant Fock network."""
