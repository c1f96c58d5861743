"""The network reproduces a converged PySCF correction, by gradient descent and in closed form."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.inputs import PhysicsMatrices, prepare_inputs
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.readout import solve_readout
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import WATER
from deeph_zero.train.taught import make_problem

LAYOUT = BasisLayout.from_shells({1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)})


def scf_problem(atom):
    """(inputs, label-free proxy, converged F - F0) with PBE/def2-SVP, density fitting."""
    mol = gto.M(atom=atom, basis="def2-svp", verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.conv_tol = 1e-10

    def fock(dm):
        return np.asarray(hcore + mf.get_veff(mol, dm))

    ovlp, hcore = mf.get_ovlp(), mf.get_hcore()
    dm0 = np.asarray(mf.get_init_guess(mol, "minao"))
    fock0 = fock(dm0)
    energy, coeff = mf.eig(fock0, ovlp)
    dm1 = np.asarray(mf.make_rdm1(coeff, mf.get_occ(energy, coeff)))
    proxy = fock(dm1) - fock0
    mf.kernel()
    wanted = fock(np.asarray(mf.make_rdm1())) - fock0
    matrices = PhysicsMatrices(
        ovlp=torch.tensor(ovlp),
        hcore=torch.tensor(hcore),
        dm0=torch.tensor(dm0),
        fock0=torch.tensor(fock0),
        ddm0=torch.tensor(dm1 - dm0),
    )
    inputs = prepare_inputs(
        LAYOUT, mol.atom_charges(), torch.tensor(mol.atom_coords()), 0, 0, matrices, cutoff=14.0
    )
    return inputs, torch.tensor(proxy), torch.tensor(wanted)


@pytest.fixture(scope="module")
def water_problem():
    return scf_problem(WATER)


@pytest.fixture
def network(water_problem):
    inputs, proxy, _ = water_problem
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FockNetwork(default_spec(LAYOUT))
    net.calibrate([inputs], [inputs.blocks(proxy)])
    return net


@pytest.mark.reference
def test_closed_form_readout_reaches_the_scf_fock(water_problem, network):
    inputs, _, wanted = water_problem
    assert wanted.abs().max() > 0.1
    solve_readout(network, [inputs], [inputs.blocks(wanted)])
    error = network(inputs)[0].to_dense() - wanted
    assert error.square().mean().sqrt() < 1e-6
    assert error.abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.reference
def test_adam_reaches_the_scf_fock(water_problem, network):
    """Elements of 1e-4 Eh need an Adam eps far below the default 1e-8: gradients are that small."""
    inputs, _, wanted = water_problem
    steps = 300
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.9, 0.99), eps=1e-16)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    start = float(wanted.square().mean().sqrt())
    for _ in range(steps):
        optimiser.zero_grad()
        (network(inputs)[0].to_dense() - wanted).square().mean().backward()
        optimiser.step()
        schedule.step()
    error = (network(inputs)[0].to_dense() - wanted).detach()
    assert error.square().mean().sqrt() < 5e-3 * start
    assert error.abs().max() < 2e-3


@pytest.mark.reference
def test_unseen_geometry_is_better_than_the_start(water_problem, network):
    """Closed-form readout from four waters predicts a fifth ten times better than F0 does."""
    rng = np.random.default_rng(3)
    base = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]])

    def text(coords):
        return "; ".join(f"{s} {x} {y} {z}" for s, (x, y, z) in zip("OHH", coords, strict=True))

    problems = [scf_problem(text(base + 0.05 * rng.normal(size=(3, 3)))) for _ in range(4)]
    network.calibrate([p[0] for p in problems], [p[0].blocks(p[1]) for p in problems])
    solve_readout(
        network, [p[0] for p in problems], [p[0].blocks(p[2]) for p in problems], ridge=1e-5
    )
    inputs, _, wanted = water_problem
    error = (network(inputs)[0].to_dense() - wanted).abs().mean()
    assert error < 0.1 * wanted.abs().mean()


@pytest.mark.parametrize(("atom", "nao"), [("H 0 0 0; H 0 0.1 0.74", 2), ("He 0 0 0", 1)])
def test_a_basis_of_s_shells_alone_has_a_network(atom, nao):
    mol = gto.M(atom=atom, basis="sto-3g", verbose=0)
    spec = default_spec(basis_layout([mol]), "tiny")
    numbers = mol.atom_charges()
    molecule = Molecule(numbers=numbers, coords=mol.atom_coords())
    method = Method(basis="sto-3g", grid_level=0)
    problem = make_problem(molecule, method, Reading.of(spec, torch.float32))
    correction = FockNetwork(spec)(problem.inputs)[0].to_dense()
    assert correction.shape == (nao, nao)
    assert torch.isfinite(correction).all()


def test_readout_in_parts_is_that_of_all_at_once(monkeypatch):
    """Unlike molecules, some without an element: the sums over parts give the same maps."""
    atoms = ("O 0 0 0.1; H 0 0.8 0.6; H 0.1 -0.7 0.6", "O 0 0 0; O 0 0.1 1.3; H 0.9 0 -0.2")
    rng, cases = torch.Generator().manual_seed(5), []
    for atom in (*atoms, "H 0 0 0; H 0.1 0.2 0.8"):
        spin = 1 if "O 0 0.1" in atom else 0
        mol = gto.M(atom=atom, basis="def2-svp", spin=spin, verbose=0)
        s, h = (torch.tensor(mol.intor(name)) for name in ("int1e_ovlp", "int1e_kin"))
        matrices = PhysicsMatrices(ovlp=s, hcore=h, n_spin=spin + 1)
        inputs = prepare_inputs(
            LAYOUT, mol.atom_charges(), torch.tensor(mol.atom_coords()), 0, spin, matrices,
            cutoff=14.0, dtype=torch.float64,
        )  # fmt: skip
        nao = inputs.patterns[0].nao
        shape = (nao, nao) if spin == 0 else (2, nao, nao)
        wanted = torch.randn(shape, generator=rng, dtype=torch.float64)
        cases += 100 * [(inputs, inputs.blocks(wanted + wanted.mT))]
    found = []
    for part in (1000, 130):
        monkeypatch.setattr("deeph_zero.nn.readout.PART", part)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = FockNetwork(default_spec(LAYOUT, "tiny")).double()
        net.calibrate(*zip(*cases, strict=True))
        # more rows than features: the ridge is then the same for both
        solve_readout(net, *zip(*cases, strict=True), ridge=1e-3)
        with torch.no_grad():
            found.append([net(inputs)[0].to_dense() for inputs, _ in cases[::100]])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_one_molecule_without_a_channel_does_not_blow_up_the_next():
    """π channels between H and O are empty in a line; bent, they are as large as anything."""
    pairs = []
    for bend in (0.0, 0.6):
        mol = gto.M(atom=f"H 0 0 -1; O 0 0 0; H {bend} 0 0.9", basis="def2-svp", verbose=0)
        s, h = (torch.tensor(mol.intor(name)) for name in ("int1e_ovlp", "int1e_kin"))
        pairs.append((mol, PhysicsMatrices(ovlp=s, hcore=h)))
    line, bent = (
        prepare_inputs(
            LAYOUT, m.atom_charges(), torch.tensor(m.atom_coords()), 0, 0, x, cutoff=14.0
        )
        for m, x in pairs
    )
    net = FockNetwork(default_spec(LAYOUT))
    largest = []
    for others in ((), [bent]):
        nothing = line.blocks(torch.zeros(24, 24, dtype=torch.float64))
        net.calibrate([line], [nothing], others)
        species = net.scales.species(bent)
        largest.append(
            net.scales.pair_inputs(bent.edge_inputs, species, bent.edge_index).abs().max()
        )
    assert largest[0] < 50
    assert largest[1] < largest[0]
