"""What PySCF runs as its settings in the place of a working folder's ``.pyscf_conf.py``."""

DISABLE_EVAL = True
