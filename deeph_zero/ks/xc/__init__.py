"""Exchange-correlation functionals in torch."""
