"""Write the structures that general organic models are trained on, from rules and seeds alone.

    python tools/pretrain/make_structures.py -o train.xyz                    # recipe.toml beside it
    python tools/pretrain/make_structures.py --recipe mine.toml -o train.xyz

Molecules of H, C, N, O and F are grown by rules of valence (RDKit) from an atom or a scaffold,
embedded in three dimensions, and pushed: thermal displacements, one bond stretched or pressed,
pairs in contact. No structure is read from anywhere. The same recipe and the same versions of RDKit
and NumPy give the same file; the second line of a structure says what it is.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import ase.data
import ase.io
import numpy as np
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem

HERE = Path(__file__).parent
VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}
ORDERS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
UNSTABLE = [
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[#8,F]~[#8,F]",
        "[#7,#8]~[#7,#8]~[#7,#8]",
        "[#7]-[F]",
        "*=*=*",
        "[r3]=,#,:[r3]",
        "[r4]=,#,:[r4]",
        "[r3]=,#[C,N]",
        "[r4,r5,r6]#[r4,r5,r6]",
    )
]
"""Peroxides, chains of three nitrogens or oxygens, N-F, cumulenes, unsaturated small rings."""


def grown(rng: np.random.Generator, recipe: dict[str, Any]) -> Chem.Mol | None:
    """One molecule by random growth and ring closures; None where it came to nothing sensible."""
    symbols, weights = zip(*recipe["elements"].items(), strict=True)
    draw = np.array(weights) / sum(weights)
    mol, free = _start(rng, recipe, str(rng.choice(symbols, p=draw)))
    n_heavy = int(rng.choice(recipe["heavy_atoms"], p=_normed(recipe["share"])))
    while mol.GetNumAtoms() < n_heavy:
        places = [k for k, left in enumerate(free) if left > 0]
        if not places:
            return None
        k, symbol = int(rng.choice(places)), str(rng.choice(symbols, p=draw))
        most = min(free[k], VALENCE[symbol], 3)
        order = int(rng.choice([1, 2, 3][:most], p=_normed(recipe["bond_orders"][:most])))
        new = mol.AddAtom(Chem.Atom(symbol))
        mol.AddBond(k, new, ORDERS[order])
        free[k] -= order
        free.append(VALENCE[symbol] - order)
    if rng.random() < recipe["rings"]:
        _close_ring(mol, free, rng)
    try:
        Chem.SanitizeMol(mol)
    except Chem.rdchem.MolSanitizeException:
        return None
    return None if any(mol.HasSubstructMatch(pattern) for pattern in UNSTABLE) else mol.GetMol()


def _start(
    rng: np.random.Generator, recipe: dict[str, Any], symbol: str
) -> tuple[Chem.RWMol, list[int]]:
    """An atom, or one of the scaffolds, and the valences that are free."""
    if rng.random() < recipe["from_scaffold"]:
        mol = Chem.MolFromSmiles(str(rng.choice(recipe["scaffolds"])))
        free = [atom.GetTotalNumHs() for atom in mol.GetAtoms()]
        Chem.Kekulize(mol, clearAromaticFlags=True)
        for atom in mol.GetAtoms():
            atom.SetNumExplicitHs(0)
        return Chem.RWMol(mol), free
    mol = Chem.RWMol()
    mol.AddAtom(Chem.Atom(symbol))
    return mol, [VALENCE[symbol]]


def _close_ring(mol: Chem.RWMol, free: list[int], rng: np.random.Generator) -> None:
    """A single bond between two atoms with a free valence that are two to five bonds apart."""
    apart = Chem.GetDistanceMatrix(mol)
    pairs = [
        (i, j)
        for i in range(len(free))
        for j in range(i)
        if free[i] and free[j] and 2 <= apart[i, j] <= 5
    ]
    if pairs:
        i, j = pairs[int(rng.integers(len(pairs)))]
        mol.AddBond(i, j, ORDERS[1])


def molecules(recipe: dict[str, Any], seed: int) -> Iterator[tuple[str, ase.Atoms]]:
    """SMILES and relaxed structures, every molecule once, as many as the recipe says."""
    seen = {Chem.CanonSmiles(smiles) for smiles in recipe.get("without", [])}
    wanted = recipe["molecules"] + len(seen)
    for attempt in range(recipe["attempts"]):
        rng = np.random.default_rng((seed, attempt))
        mol = grown(rng, recipe)
        smiles = None if mol is None else Chem.MolToSmiles(mol)
        if smiles is None or smiles in seen:
            continue
        seen.add(smiles)
        atoms = embedded(smiles, int(rng.integers(2**31)))
        if atoms is not None:
            yield smiles, atoms
            if len(seen) >= wanted:
                return


def embedded(smiles: str, seed: int) -> ase.Atoms | None:
    """A conformer, relaxed in MMFF94; None where there is none."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(mol, randomSeed=seed) != 0:
        return None
    if not AllChem.MMFFHasAllMoleculeParams(mol):
        return None
    AllChem.MMFFOptimizeMolecule(mol, maxIters=1000)
    return ase.Atoms(
        [atom.GetSymbol() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions()
    )


def shaken(atoms: ase.Atoms, rng: np.random.Generator, recipe: dict[str, Any]) -> ase.Atoms:
    """Every coordinate pushed, light atoms further, by a size drawn for the whole molecule."""
    size = rng.uniform(*recipe["push"])
    light = np.where(atoms.numbers == 1, recipe["hydrogen_push"], 1.0)
    moved = atoms.copy()
    moved.positions += size * light[:, None] * rng.normal(size=(len(atoms), 3))
    return moved


def stretched(atoms: ase.Atoms, rng: np.random.Generator, recipe: dict[str, Any]) -> ase.Atoms:
    """One bond longer or shorter, with all that hangs on the smaller end; rings are shaken only."""
    bonds = bonded(atoms)
    i, j = np.argwhere(np.triu(bonds))[rng.integers(bonds.sum() // 2)]
    bonds[i, j] = bonds[j, i] = False
    side = reached(bonds, i)
    if side[j]:
        return shaken(atoms, rng, recipe)
    if side.sum() > len(atoms) / 2:
        side, (i, j) = ~side, (j, i)
    moved = shaken(atoms, rng, recipe)
    vector = moved.positions[i] - moved.positions[j]
    moved.positions[side] += (rng.uniform(*recipe["stretch"]) - 1.0) * vector
    return moved


def bonded(atoms: ase.Atoms) -> np.ndarray:
    """Which atoms are nearer than 1.25 times the sum of their covalent radii."""
    radii = ase.data.covalent_radii[atoms.numbers]
    near = atoms.get_all_distances() < 1.25 * (radii[:, None] + radii)
    return near & ~np.eye(len(atoms), dtype=bool)


def reached(bonds: np.ndarray, start: int) -> np.ndarray:
    """Atoms that bonds connect to one."""
    found = np.zeros(len(bonds), dtype=bool)
    found[start] = True
    while (more := found | bonds[found].any(0)).sum() > found.sum():
        found = more
    return found


def dimer(
    one: ase.Atoms, two: ase.Atoms, rng: np.random.Generator, recipe: dict[str, Any]
) -> ase.Atoms:
    """Two molecules, turned at random, brought together until their nearest atoms touch."""
    one, two = shaken(one, rng, recipe), shaken(two, rng, recipe)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    one.positions -= one.positions.mean(0)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    two.positions = (two.positions - two.positions.mean(0)) @ (q * np.sign(np.linalg.det(q)))
    radii = ase.data.vdw_radii
    sums = radii[one.numbers][:, None] + radii[two.numbers]
    contact = rng.uniform(*recipe["contact"])
    for distance in np.arange(0.0, 30.0, 0.02):
        moved = two.positions + distance * direction
        apart = np.linalg.norm(one.positions[:, None] - moved, axis=-1)
        if (apart >= contact * sums).all():
            break
    two.positions = moved
    return one + two


def structures(recipe: dict[str, Any]) -> Iterator[ase.Atoms]:
    """All structures of a recipe, in its order."""
    seed = recipe["seed"]
    found = list(molecules(recipe, seed))
    small = [atoms for _, atoms in found if (atoms.numbers > 1).sum() <= recipe["dimer_heavy"]]
    if recipe["dimers"] and not small:
        raise SystemExit("error: recipe: expected molecules for pairs, got none; raise dimer_heavy")
    for k, (smiles, atoms) in enumerate(found):
        rng = np.random.default_rng((seed, 1, k))
        made = [("relaxed", atoms)] if rng.random() < recipe["relaxed"] else []
        made += [("shaken", shaken(atoms, rng, recipe)) for _ in range(recipe["shaken"])]
        if rng.random() < recipe["stretched"]:
            made.append(("stretched", stretched(atoms, rng, recipe)))
        for kind, each in made:
            each.info = {"kind": kind, "smiles": smiles}
            yield each
    for k in range(recipe["dimers"]):
        rng = np.random.default_rng((seed, 2, k))
        one, two = (small[int(i)] for i in rng.integers(len(small), size=2))
        both = dimer(one, two, rng, recipe)
        both.info = {"kind": "dimer"}
        yield both


def _normed(weights: list[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)


def main() -> None:
    """Write the file, under another name until it is whole."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", type=Path, default=HERE / "recipe.toml")
    parser.add_argument("-o", "--out", type=Path, required=True, help="extended xyz")
    options = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    recipe = tomllib.loads(options.recipe.read_text())
    made = list(structures(recipe))
    order = np.random.default_rng(recipe["seed"]).permutation(len(made))
    unfinished = options.out.with_name(f"{options.out.name}.part")
    ase.io.write(unfinished, [made[k] for k in order], format="extxyz")
    unfinished.rename(options.out)
    kinds = [atoms.info["kind"] for atoms in made]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    sys.stdout.write(f"{options.out}: {len(made)} structures ({counts})\n")


if __name__ == "__main__":
    main()
