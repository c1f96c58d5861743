"""The energy terms of crystals, one per file: each a :class:`deeph_zero.ks.terms.term.Term`.

With E the energy per cell, dE = Σ_k w_k Re tr(F_k dP_k); matrices are [nspin, nk, nao, nao].
"""
