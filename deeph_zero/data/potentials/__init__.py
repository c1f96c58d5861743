"""Kohn-Sham potentials on grids, as other programs write them."""
