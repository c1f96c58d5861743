"""Several unlike molecules in one call."""
