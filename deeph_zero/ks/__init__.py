"""Differentiable Kohn-Sham theory in torch: pure functions of tensors, no PySCF."""
