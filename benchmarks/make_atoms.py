"""Write basis/atoms.toml: the ground-state spin of every atom and a few free-atom energies.

    python benchmarks/make_atoms.py              # rewrites basis/atoms.toml
    python benchmarks/make_atoms.py -o new.toml  # writes elsewhere

The spins are typed in below from the experimental ground terms (NIST Atomic Spectra Database);
the energies are computed here with PySCF: UKS, PBE/def2-SVP, exact four-centre integrals.
"""

import argparse
import warnings
from pathlib import Path

import pyscf
from pyscf import dft, gto

MULTIPLICITIES = """
H 2 He 1
Li 2 Be 1 B 2 C 3 N 4 O 3 F 2 Ne 1
Na 2 Mg 1 Al 2 Si 3 P 4 S 3 Cl 2 Ar 1
K 2 Ca 1 Sc 2 Ti 3 V 4 Cr 7 Mn 6 Fe 5 Co 4 Ni 3 Cu 2 Zn 1 Ga 2 Ge 3 As 4 Se 3 Br 2 Kr 1
Rb 2 Sr 1 Y 2 Zr 3 Nb 6 Mo 7 Tc 6 Ru 5 Rh 4 Pd 1 Ag 2 Cd 1 In 2 Sn 3 Sb 4 Te 3 I 2 Xe 1
Cs 2 Ba 1 La 2 Ce 1 Pr 4 Nd 5 Pm 6 Sm 7 Eu 8 Gd 9 Tb 6 Dy 5 Ho 4 Er 3 Tm 2 Yb 1 Lu 2
Hf 3 Ta 4 W 5 Re 6 Os 5 Ir 4 Pt 3 Au 2 Hg 1 Tl 2 Pb 3 Bi 4 Po 3 At 2 Rn 1
"""
"""Multiplicity 2S+1 of the ground term, H to Rn, with the symbol in front."""

COMPUTED = ("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "P", "S", "Cl")
"""Atoms whose energy is computed; each converges to one state from PySCF's default guess."""


def atom_energy(symbol: str, spin: int, *, grid_level: int) -> float:
    """Total UKS PBE/def2-SVP energy of one atom with 2S = ``spin``, hartree."""
    mol = gto.M(atom=f"{symbol} 0 0 0", basis="def2-svp", spin=spin, verbose=0)
    mf = dft.UKS(mol, xc="pbe")
    mf.grids.level = grid_level
    mf.conv_tol = 1e-10
    energy = mf.kernel()
    if not mf.converged:
        raise RuntimeError(f"{symbol}: the atom did not converge")
    return float(energy)


def table(grid_level: int) -> str:
    """The whole file as text."""
    words = MULTIPLICITIES.split()
    spins = {s: int(m) - 1 for s, m in zip(words[::2], words[1::2], strict=True)}
    lines = [
        "# Free atoms, written by benchmarks/make_atoms.py; do not edit by hand.",
        "# spin: 2S of the experimental ground term (NIST Atomic Spectra Database).",
        "# energy: hartree, spherical symmetry not imposed, for elements computed so far; an open",
        "# p shell may point anywhere and the grid then moves it by 1e-6, hence five decimals.",
        "[method]",
        'energy = "UKS PBE/def2-SVP, exact four-centre integrals"',
        f"grid_level = {grid_level}",
        f'program = "PySCF {pyscf.__version__}"',
    ]
    for number, (symbol, spin) in enumerate(spins.items(), start=1):
        lines += ["", f"[{symbol}]", f"number = {number}", f"spin = {spin}"]
        if symbol in COMPUTED:
            lines.append(f"energy = {atom_energy(symbol, spin, grid_level=grid_level):.5f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the file."""
    default = Path(__file__).parents[1] / "basis" / "atoms.toml"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=default, help="file to write")
    output = parser.parse_args().output
    warnings.filterwarnings("ignore", module="pyscf")
    output.write_text(table(grid_level=5))
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
