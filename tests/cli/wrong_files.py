"""Inputs of the table of wrong inputs, made by name when a row asks for them."""
# ruff: noqa: ARG005

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import sqlite3
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
from safetensors.torch import load_file, save_file

HI = "2\n{}\nH 0 0 0\nH 0 0.1 0.73\n"
ATOM = "1\n\nH {} 0 0\n"
SDF = (
    "\n  made\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
    "    0.0000    0.0000    0.0000 H   0  0\n    0.0000    0.1000    0.7300 H   0  0\n"
    "  1  2  1  0\nM  END\n$$$$\n"
)
PDB = "ATOM      1  H   HYD A   1       0.000   0.000   0.000  1.00  0.00           H\nEND\n"
NUMBERS, PLACES = np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0.1, 0.73]])


def two(key: str) -> str:
    return HI.format(key)


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def huge_npz() -> bytes:
    """A header that announces 24 TB."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    buffer = io.BytesIO(npz(numbers=NUMBERS))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("positions.npy", array)
    return buffer.getvalue()


def arrays(**changes) -> bytes:
    values = {"numbers": NUMBERS, "positions": PLACES} | changes
    return npz(**{name: value for name, value in values.items() if value is not None})


def toml(text: str = "", data: str = 'train = ["hi.xyz"]') -> str:
    quick = '[method]\nbasis = "sto-3g"\ngrid_level = 0\n' if "[method]" not in text else ""
    section = f"[data]\n{data}\n" if "[data]" not in text else ""
    return f"{section}{quick}{text}\n"


FILES: dict[str, str | bytes] = {
    "v.npy": npy(np.zeros((4, 4, 4))),
    "hi.xyz": two(""),
    "three.xyz": two("") * 3,
    "run.toml": toml(
        '[training]\nsteps = 2\nlearning_rate = 1e-9\nconv_tol_grad = 1e-12\n[model]\nsize = "tiny"'
    ),
    "more.toml": toml(
        '[training]\nsteps = 4\nlearning_rate = 1e-9\nconv_tol_grad = 1e-12\n[model]\nsize = "tiny"'
    ),
    "good.toml": toml("[training]\nsteps = 1"),
    "w.xyz": two(""),
    # ---- xyz
    "empty.xyz": "",
    "blank.xyz": "\n\n\n",
    "space.xyz": "   \t ",
    "none.xyz": "0\n\n",
    "minus.xyz": two("").replace("2\n", "-2\n", 1),
    "half.xyz": two("").replace("2\n", "2.5\n", 1),
    "word.xyz": two("").replace("2\n", "two\n", 1),
    "digits.xyz": "9" * 5000 + "\n\nH 0 0 0\n",
    "moredigits.xyz": "9" * 100_000 + "\n\nH 0 0 0\n",
    "billion.xyz": "1000000000\n\nH 0 0 0\n",
    "cut.xyz": "2\n\nH 0 0 0\n",
    "onlycount.xyz": "2\n",
    "onlytitle.xyz": "2\ntitle\n",
    "longer.xyz": two("") + "H 0 0 3\n",
    "tail.xyz": two("") + "the end\n",
    "column.xyz": "2\n\nH 0 0\nH 0 0 1\n",
    "nocolumn.xyz": "2\n\nH\nH 0 0 1\n",
    "letter.xyz": ATOM.format("O.1"),
    "nan.xyz": ATOM.format("nan"),
    "inf.xyz": ATOM.format("inf"),
    "ninf.xyz": ATOM.format("-inf"),
    "e400.xyz": ATOM.format("1e400"),
    "e308.xyz": ATOM.format("1e308"),
    "e200.xyz": ATOM.format("1e200"),
    "e155.xyz": ATOM.format("1e155"),
    "e30.xyz": two("").replace("0.73", "1e30"),
    "under.xyz": two("").replace("0.73", "1_0"),
    "hexa.xyz": two("").replace("0.73", "0x1"),
    "complex.xyz": two("").replace("0.73", "1+2j"),
    "comma.xyz": two("").replace("0.73", "0,73"),
    "longnumber.xyz": two("").replace("0.73", "7" * 5000),
    "element.xyz": two("").replace("H 0 0 0", "Qq 0 0 0"),
    "accent.xyz": two("").replace("H 0 0 0", "Ö 0 0 0"),
    "zero.xyz": two("").replace("H 0 0 0", "0 0 0 0"),
    "z119.xyz": two("").replace("H 0 0 0", "119 0 0 0"),
    "z999.xyz": two("").replace("H 0 0 0", "999 0 0 0"),
    "minusz.xyz": two("").replace("H 0 0 0", "-1 0 0 0"),
    "dummy.xyz": two("").replace("H 0 0 0", "X 0 0 0"),
    "same.xyz": "2\n\nH 0 0 0\nH 0 0 0\n",
    "nearly.xyz": "2\n\nH 0 0 0\nH 0 0 1e-9\n",
    "near.xyz": "2\n\nH 0 0 0\nH 0 0 0.1\n",
    "periodic.xyz": two('Lattice="9 0 0 0 9 0 0 0 9" pbc="T T T"'),
    "silicon.xyz": '1\nLattice="0 2 2 2 0 2 2 2 0" pbc="T T T"\nSi 0 0 0\n',
    "aluminium.xyz": '1\nLattice="0 2 2 2 0 2 2 2 0" pbc="T T T"\nAl 0 0 0\n',
    "magnesium.xyz": '1\nLattice="0 2 2 2 0 2 2 2 0" pbc="T T T"\nMg 0 0 0\n',
    "slab.xyz": two('Lattice="9 0 0 0 9 0 0 0 9" pbc="T T F"'),
    "lattice.xyz": two('Lattice="9 0 0 0 9"'),
    "latticeword.xyz": two('Lattice="a b c d e f g h i"'),
    "properties.xyz": two("Properties=species:S:1:pos:R:2"),
    "propertiesword.xyz": two("Properties=what"),
    "halfcharge.xyz": two("charge=0.5"),
    "wordcharge.xyz": two("charge=plus"),
    "nancharge.xyz": two("charge=nan"),
    "bigcharge.xyz": two("charge=1e400"),
    "digitcharge.xyz": two("charge=" + "1" * 5000),
    "muchcharge.xyz": two("charge=2000"),
    "listcharge.xyz": two('charge="1 2"'),
    "truecharge.xyz": two("charge=T"),
    "proton.xyz": "1\ncharge=1\nH 0 0 0\n",
    "dication.xyz": two("charge=4"),
    "negspin.xyz": two("spin=-2"),
    "halfspin.xyz": two("spin=0.5"),
    "wordspin.xyz": two("spin=many"),
    "oddspin.xyz": two("spin=1"),
    "highspin.xyz": two("spin=4"),
    "conflict.xyz": two("charge=0 total_charge=2"),
    "radical.xyz": "1\n\nH 0 0 0\n",
    "multiplicity.xyz": two("multiplicity=0"),
    "anion.xyz": "1\ncharge=-4\nHe 0 0 0\n",
    "heavy.xyz": "1\n\nU 0 0 0\n",
    "junk.xyz": bytes(range(256)) * 4,
    "nul.xyz": b"2\n\nH 0 0 0\nH 0 0 \x001\n",
    "words.xyz": "once upon a time\n",
    "html.xyz": "<html><body>404</body></html>\n",
    "json.xyz": '{"a": 1}\n',
    "bad.xyz.gz": b"\x1f\x8bnothing",
    "cut.xyz.gz": gzip.compress(two("").encode())[:-12],
    "empty.xyz.gz": gzip.compress(b""),
    "bad.xyz.bz2": b"BZhnothing",
    "empty.xyz.bz2": bz2.compress(b""),
    "bad.xyz.xz": b"\xfd7zXZ\x00nothing",
    "empty.xyz.xz": lzma.compress(b""),
    # ---- other formats of molecules
    "cut.sdf": SDF.replace("  2  1", "  5  1").partition("    0.0000    0.1000")[0],
    "counts.sdf": SDF.replace("  2  1  0", "  7  1  0"),
    "empty.sdf": "",
    "junk.sdf": bytes(range(256)) * 4,
    "words.sdf": "once upon a time\n",
    "coordinate.sdf": SDF.replace("0.7300", "0.73oo"),
    "element.sdf": SDF.replace("0.7300 H", "0.7300 Qq"),
    "same.sdf": SDF.replace("0.1000    0.7300", "0.0000    0.0000"),
    "cut.mol": "\n made\n\n",
    "words.mol": "once upon a time\n",
    "empty.pdb": "",
    "words.pdb": "once upon a time\n",
    "coordinate.pdb": PDB.replace("   0.000   0.000   0.000", "   0.000     abc   0.000"),
    "psi4.in": "molecule {\n-1 1\nO 0 0 0\nH 0 0 1\n}\nenergy('scf')\n",
    "molpro.inp": "geometry={\nO 0 0 0\nH 0 0 1\n}\nset,charge=-1\nrhf\n",
    "gamess.inp": " $contrl icharg=-1 $end\n $data\nOH\nC1\nO 8. 0 0 0\nH 1. 0 0 1\n $end\n",
    "mopac.mop": "PM7 CHARGE=-1\n\n\nO 0 0 0 0 0 0\nH 0 0 0 0 1 1\n",
    "cp2k.inp": "&FORCE_EVAL\n&COORD\nO 0 0 0\nH 0 0 1\n&END\n&END\n",
    "script.py": "from pyscf import gto\nmol = gto.M(atom='H 0 0 0; H 0 0 1')\n",
    "psi4.out": "   Psi4: An Open-Source Ab Initio Electronic Structure Package\n",
    "halfcharge.hsd": "Geometry = GenFormat {\n2 C\nH\n1 1 0 0 0\n2 1 0 0 1\n}\n"
    "Hamiltonian = DFTB { Charge = 0.5 }\n",
    "atomless.pdb": "HEADER nothing\nEND\n",
    "same.pdb": PDB.replace("END", "") + PDB.replace(" 1  H", " 2  H"),
    "wire.xyz": two('Lattice="9 0 0 0 9 0 0 0 9" pbc="T F F"'),
    "tft.xyz": two('Lattice="9 0 0 0 9 0 0 0 9" pbc="T F T"'),
    "flat.xyz": two('Lattice="9 0 0 0 9 0 0 0 0"'),
    "coplanar.xyz": two('Lattice="9 0 0 0 9 0 9 9 0"'),
    "lefthand.xyz": two('Lattice="9 0 0 0 9 0 0 0 -9"'),
    "nancell.xyz": two('Lattice="9 0 0 0 9 0 0 0 nan"'),
    "image.xyz": two('Lattice="9 0 0 0 9 0 0 0.1 0.73"'),
    "vectors.xyz": '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:'
    "initial_magmoms:R:3\nH 0 0 0 0 0 1\n",
    "copies.pdb": "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 21\n" + PDB,
    "periodic.pdb": "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n" + PDB,
    "words.cif": "once upon a time\n",
    "empty.cif": "",
    "words.com": "once upon a time\n",
    "empty.com": "",
    "words.gjf": "%mem=1GB\n",
    "xyz.out": "3\n\nO 0 0\nH 0 0 1\n",
    "words.out": "once upon a time\n",
    "empty.out": "",
    "words.log": "once upon a time\n",
    "words.dat": "once upon a time\n",
    "junk.bin": bytes(range(256)) * 4,
    "words.nothing": "once upon a time\n",
    "words.json": "once upon a time\n",
    "list.json": "[1, 2]",
    "words.traj": "once upon a time\n",
    "empty.traj": "",
    "empty.smi": "",
    "bad.smi": "C(\n",
    "words.smi": "once upon a time\n",
    "dots.smi": ".\n",
    "words.db": "once upon a time\n",
    "empty.db": "",
    "POSCAR": "once upon a time\n",
    "words.vasp": "once upon a time\n",
    "coord": "$coord\n 0 0 h\n$end\n",
    "words.tmol": "$coord\n",
    # ---- npz
    "empty.npz": "",
    "words.npz": "once upon a time\n",
    "cut.npz": arrays()[:-40],
    "huge.npz": huge_npz(),
    "noframes.npz": arrays(positions=np.zeros((0, 2, 3))),
    "noatoms.npz": arrays(numbers=np.zeros(0, int), positions=np.zeros((1, 0, 3))),
    "nopositions.npz": arrays(positions=None),
    "nonumbers.npz": arrays(numbers=None),
    "complexz.npz": arrays(numbers=NUMBERS + 2j),
    "complexplaces.npz": arrays(positions=PLACES + 1j),
    "object.npz": arrays(numbers=np.array([1, "H"], dtype=object)),
    "textz.npz": arrays(numbers=np.array(["a", "b"])),
    "textplaces.npz": arrays(positions=PLACES.astype(str)),
    "z1e300.npz": arrays(numbers=np.array([1e300, 1])),
    "zhalf.npz": arrays(numbers=np.array([1.5, 1])),
    "znan.npz": arrays(numbers=np.array([np.nan, 1])),
    "zminus.npz": arrays(numbers=np.array([-1, 1])),
    "z200.npz": arrays(numbers=np.array([200, 1])),
    "nanplaces.npz": arrays(positions=PLACES * np.nan),
    "infplaces.npz": arrays(positions=PLACES + np.inf),
    "flat.npz": arrays(positions=PLACES.ravel()),
    "twocolumns.npz": arrays(positions=PLACES[:, :2]),
    "threeatoms.npz": arrays(numbers=np.array([1, 1, 1])),
    "scalar.npz": arrays(numbers=np.array(1)),
    "boolz.npz": arrays(numbers=np.array([True, True])),
    "charges.npz": arrays(charge=np.array([0, 1, 2, 3])),
    "halfcharge.npz": arrays(charge=np.array(0.5)),
    "textcharge.npz": arrays(charge=np.array("plus")),
    "negspin.npz": arrays(spin=np.array(-2)),
    "far.npz": arrays(positions=PLACES * 1e200),
}
FILES |= {
    # ---- settings
    "empty.toml": "",
    "word.toml": "once upon a time\n",
    "junk.toml": bytes(range(256)) * 4,
    "utf16.toml": toml().encode("utf-16"),
    "latin1.toml": "# é\n".encode("latin-1"),
    "nul.toml": b"a = 1\x00\n",
    "twice.toml": toml("[training]\nsteps = 1\nsteps = 2"),
    "twotables.toml": toml("[training]\n[training]"),
    "open.toml": toml("[training"),
    "quote.toml": toml('[training]\nloss = "energy'),
    "noquote.toml": toml("[training]\nloss = energy"),
    "digits.toml": toml("[training]\nsteps = " + "9" * 5000),
    "hexdigits.toml": toml("[training]\nsteps = 0x" + "f" * 5000),
    "floatdigits.toml": toml("[model]\ncutoff = " + "9" * 5000 + ".0"),
    "nested.toml": "a = " + "[" * 3000 + "]" * 3000 + "\n",
    "nested400.toml": toml("[training]\nsteps = " + "[" * 200 + "]" * 200),
    "keys.toml": ".".join(["a"] * 3000) + " = 1\n",
    "section.toml": toml("[trainning]\nsteps = 1"),
    "key.toml": toml("[training]\nstep = 1"),
    "toplevel.toml": "epochs = 3\n" + toml(),
    "notsection.toml": "training = 3\n" + toml(),
    "arraysection.toml": toml("[[training]]\nsteps = 1"),
    "started.toml": toml("[runtime]\nstarted = 0"),
    "text.toml": toml('[training]\nsteps = "3"'),
    "true.toml": toml("[training]\nsteps = true"),
    "one.toml": toml("[training]\nstream = 1"),
    "float.toml": toml("[training]\nsteps = 1.5"),
    "nan.toml": toml("[model]\ncutoff = nan"),
    "inf.toml": toml("[model]\ncutoff = inf"),
    "date.toml": toml("[training]\nsteps = 2020-01-02"),
    "datetext.toml": toml("[method]\nxc = 2020-01-02"),
    "table.toml": toml("[training]\nsteps = {a = 1}"),
    "cutoff.toml": toml("[model]\ncutoff = -1"),
    "blank.toml": toml(data='train = [""]'),
    "nolabels.toml": toml(data='train = ["hi.xyz"]\nlabels = [""]'),
    "noinit.toml": toml('[training]\ninit = ""'),
    "size.toml": toml('[model]\nsize = "huge"'),
    "interaction.toml": toml('[model]\ninteraction = "so3"'),
    "dtype.toml": toml('[model]\ndtype = "float16"'),
    "elements.toml": toml('[model]\nelements = ["Xx"]'),
    "elementsword.toml": toml('[model]\nelements = "H"'),
    "elementsnumber.toml": toml("[model]\nelements = [1]"),
    "devicesvalidation.toml": toml(
        "[training]\ndevices = 2", data='train = ["three.xyz"]\nvalidation = 0.4'
    ),
    "devices.toml": toml("[training]\ndevices = 0"),
    "devicesstream.toml": toml("[training]\ndevices = 2\nsamples = 3\nstream = true"),
    "devicesworkers.toml": toml("[training]\ndevices = 2\nworkers = 2"),
    "stream.toml": toml("[training]\nstream = true"),
    "visits.toml": toml("[training]\nstream_visits = 0"),
    "length.toml": toml("[training]\nsteps = 1\nepochs = 1"),
    "jk.toml": toml('[training]\njk_dtype = "float32"\n[method]\ndensity_fit = false'),
    "symmetry.toml": toml('[model]\ninputs = "geometry"\n[method]\nbreak_symmetry = true'),
    "calibration.toml": toml("[training]\ncalibration = 5"),
    "blocks.toml": toml("[training]\nsupervised_blocks = [1, 2]"),
    "blocksminus.toml": toml("[training]\nsupervised_blocks = [0, -1, 0]"),
    "rate.toml": toml("[training]\nlearning_rate = 0"),
    "batch.toml": toml("[training]\nbatch_size = 0"),
    "ema.toml": toml("[training]\nema = 1.0"),
    "budget.toml": toml('[training]\nbudget = "half"'),
    "tolerance.toml": toml("[training]\nconv_tol_grad = 2"),
    "memory.toml": toml("[training]\nmemory_mb = 0"),
    "disk.toml": toml("[training]\ndisk_mb = -1"),
    "orbital.toml": toml("[training]\nsupervised_orbital_energy = -1"),
    "loss.toml": toml('[training]\nloss = "enrgy"'),
    "basis.toml": toml('[method]\nbasis = "nobasis"'),
    "xc.toml": toml('[method]\nbasis = "sto-3g"\nxc = "pbbe"'),
    "spin.toml": toml('[method]\nbasis = "sto-3g"\nspin = 1'),
    "time.toml": toml('[runtime]\nmax_time = "soon"'),
    "timezero.toml": toml("[runtime]\nmax_time = 0"),
    "seed.toml": toml("[runtime]\nseed = -1"),
    "verbose.toml": toml("[runtime]\nverbose = 77"),
    "threads.toml": toml("[runtime]\nthreads = 0"),
    "device.toml": toml('[runtime]\ndevice = "gpu"'),
    "notrain.toml": toml(data=""),
    "trainempty.toml": toml(data="train = []"),
    "trainword.toml": toml(data='train = "hi.xyz"'),
    "trainnumber.toml": toml(data="train = [1]"),
    "missing.toml": toml(data='train = ["no.xyz"]'),
    "validation.toml": toml(data='train = ["hi.xyz"]\nvalidation = 0.9'),
    "validationtrue.toml": toml(data='train = ["hi.xyz"]\nvalidation = true'),
    "validationfile.toml": toml(data='train = ["hi.xyz"]\nvalidation = "no.xyz"'),
    "init.toml": toml('[training]\ninit = "no"'),
    "supervised.toml": toml('[training]\nloss = "supervised"'),
    "labels.toml": toml(data='train = ["hi.xyz"]\nlabels = ["labels.h5"]'),
    "labelsmissing.toml": toml(
        '[training]\nloss = "supervised"', data='train = ["hi.xyz"]\nlabels = ["no.h5"]'
    ),
    "labelsother.toml": toml(
        '[training]\nloss = "supervised"', data='train = ["other.xyz"]\nlabels = ["labels.h5"]'
    ),
    "labelsmethod.toml": toml(
        '[training]\nloss = "supervised"\n[method]\nbasis = "sto-3g"\ngrid_level = 1',
        data='train = ["hi.xyz"]\nlabels = ["labels.h5"]',
    ),
    **{
        f"train_{name}.toml": toml(
            '[training]\nloss = "supervised"',
            data=f'train = ["hi.xyz"]\nlabels = ["{name}.h5"]',
        )
        for name in (
            "complexfock",
            "xc",
            "energylength",
            "occthree",
            "noatoms",
            "lopsidedfock",
            "order",
            "notconverged",
            "cut",
        )
    },
    "other.xyz": two("").replace("0.73", "0.75"),
    # ---- outputs
    "notes.txt": "years of work",
    "notes.h5": "years of work",
    "notes.json": "years of work",
    "notes.html": "years of work",
    "x_pred.json": "years of work",
    # ---- must be read
    "crlf.xyz": two("").replace("\n", "\r\n"),
    "cr.xyz": two("").replace("\n", "\r"),
    "bom.xyz": b"\xef\xbb\xbf" + two("").encode(),
    "latin1.xyz": "2\nWasserstoff, 1 Ångström\nH 0 0 0\nH 0 0.1 0.73\n".encode("latin-1"),
    "blanks.xyz": "\n" + two("") + "\n\n",
    "tabs.xyz": two("").replace(" ", "\t"),
    "crlf.toml": toml("[training]\nsteps = 1").replace("\n", "\r\n"),
    "bom.toml": b"\xef\xbb\xbf" + toml("[training]\nsteps = 1").encode(),
    "fortran.xyz": two("").replace("0.73", "7.3D-1"),
}


def labels_with(change):
    """A copy of the labels with something changed in its only group."""

    def make(path: Path, kit: "Kit") -> None:
        shutil.copy(kit.labels, path)
        with h5py.File(path, "r+") as handle:
            change(handle["0000"])

    return make


def array(name: str, new):
    def change(group):
        old = group[name][()]
        del group[name]
        value = new(old)
        if isinstance(value, str) and value == "group":
            group.create_group(name)
        elif value is not None:
            group.create_dataset(name, data=value)

    return labels_with(change)


def attribute(name: str, value):
    def change(group):
        if value is None:
            del group.attrs[name]
        else:
            group.attrs[name] = value

    return labels_with(change)


def lopsided(matrix):
    changed = matrix.copy()
    changed[0, 1] += 0.5
    return changed


def h5(write):
    def make(path: Path, kit: "Kit") -> None:
        del kit
        with h5py.File(path, "w") as handle:
            write(handle)

    return make


def two_labels(change):
    """Two groups, the second of which is changed."""

    def make(path: Path, kit: "Kit") -> None:
        shutil.copy(kit.labels, path)
        with h5py.File(path, "r+") as handle:
            handle.copy("0000", "0001")
            change(handle["0001"])

    return make


def database(*statements: str, rows=()):
    def make(path: Path, kit: "Kit") -> None:
        del kit
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
            for row in rows:
                connection.execute("INSERT INTO data VALUES (?, ?, ?, ?, ?)", row)
        connection.close()

    return make


TABLE = "CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)"
Z, POS = NUMBERS.astype(np.int32).tobytes(), PLACES.tobytes()
HAM = np.eye(10).tobytes()


def model_with(change, *, weights=None):
    """A copy of the model with its ``model.json`` changed (a dictionary, or its text)."""

    def make(path: Path, kit: "Kit") -> None:
        shutil.copytree(kit.model, path)
        file = path / "model.json"
        document = json.loads(file.read_text())
        text = change(document)
        if isinstance(text, bytes):
            file.write_bytes(text)
        else:
            file.write_text(text if isinstance(text, str) else json.dumps(document))
        if weights is not None:
            weights(path / "model.safetensors")

    return make


def network(**values):
    return model_with(lambda document: document["network"].update(values))


def field(**values):
    return model_with(lambda document: document.update(values))


def method(**values):
    return model_with(lambda document: document["method"].update(values))


def run_with(name: str, content):
    """A copy of the run with one file replaced."""

    def make(path: Path, kit: "Kit") -> None:
        shutil.copytree(kit.run, path)
        file = path / name
        if content is None:
            file.unlink()
        elif callable(content):
            document = json.loads(file.read_text())
            content(document)
            file.write_text(json.dumps(document))
        else:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def folder_with(**files: str):
    def make(path: Path, kit: "Kit") -> None:
        del kit
        path.mkdir()
        for name, content in files.items():
            (path / name.replace("_", ".", 1)).write_text(content)

    return make


def in_run(name: str, change):
    """A copy of the run in whose predictions something is changed."""

    def make(path: Path, kit: "Kit") -> None:
        shutil.copytree(kit.run, path)
        with h5py.File(path / name, "r+") as handle:
            change(handle["0000"])

    return make


def replaced(name: str, value):
    def change(group):
        del group[name]
        if value is not None:
            group[name] = value

    return change


class Kit:
    """The good things that wrong ones are made of.

    Attributes:
        model: Folder of a model.
        run: Folder of a finished run.
        labels: File of labels.
    """

    def __init__(self, folder: Path) -> None:
        self.model, self.run = folder / "m", folder / "run"
        self.labels = folder / "labels.h5"

    def make(self, name: str, folder: Path) -> None:
        """Put an input of this name into a folder."""
        make(name, folder, self)


def fifo(path: Path, kit: Kit) -> None:
    del kit
    os.mkfifo(path)


def link(target: str):
    def make(path: Path, kit: Kit) -> None:
        del kit
        path.symlink_to(target)

    return make


def changed_weights(change):
    """Weights with another first tensor, and the checksum to them."""

    def make(path: Path) -> None:
        tensors = load_file(path)
        first = sorted(tensors)[0]
        save_file(tensors | {first: change(tensors[first])}, path)
        document = json.loads(path.with_suffix(".json").read_text())
        document["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps(document))

    return make


def truncate(count: int):
    return lambda file: file.write_bytes(file.read_bytes()[:count])


def append(content: bytes):
    return lambda file: file.write_bytes(file.read_bytes() + content)


DEEP = "[" * 100_000 + "]" * 100_000
MADE = {
    "m": lambda path, kit: shutil.copytree(kit.model, path),
    "run": lambda path, kit: shutil.copytree(kit.run, path),
    "labels.h5": lambda path, kit: shutil.copy(kit.labels, path),
    "dir.xyz": folder_with(a_txt="a"),
    "dir.h5": folder_with(a_txt="a"),
    "dir.html": folder_with(a_txt="a"),
    "dir.json": folder_with(a_txt="a"),
    "dir.toml": folder_with(a_txt="a"),
    "dir.db": folder_with(a_txt="a"),
    "dir.chk": folder_with(a_txt="a"),
    "empty_dir": folder_with(),
    "foreign": folder_with(thesis_tex="years of work"),
    "pipe.xyz": fifo,
    "pipe.toml": fifo,
    "pipe.h5": fifo,
    "pipe.npz": fifo,
    "pipe.db": fifo,
    "loop.xyz": link("loop.xyz"),
    "loop.h5": link("loop.h5"),
    "loop.toml": link("loop.toml"),
    "loop.html": link("loop.html"),
    "loop.json": link("loop.json"),
    "loop.db": link("loop.db"),
    "loop": link("loop"),
    "nowhere.xyz": link("not/there"),
    "nowhere": link("not/there"),
    "zero.xyz.dev": link("/dev/zero"),
    "null.xyz": link("/dev/null"),
    "zerodev.xyz": link("/dev/zero"),
    "zerodev.npz": link("/dev/zero"),
    "zerodev.h5": link("/dev/zero"),
    "zerodev.toml": link("/dev/zero"),
    "zerodev.db": link("/dev/zero"),
    # ---- databases
    "qh9.db": database(TABLE, rows=[(0, 2, Z, POS, HAM)]),
    "notable.db": database("CREATE TABLE other (id INTEGER)"),
    "norows.db": database(TABLE),
    "columns.db": database("CREATE TABLE data (id INTEGER, N INTEGER)"),
    "z.db": database(TABLE, rows=[(0, 2, Z[:4], POS, HAM)]),
    "n.db": database(TABLE, rows=[(0, 3, Z, POS, HAM)]),
    "nword.db": database(TABLE, rows=[(0, "two", Z, POS, HAM)]),
    "nnull.db": database(TABLE, rows=[(0, None, Z, POS, HAM)]),
    "nhuge.db": database(TABLE, rows=[(0, 2**40, Z, POS, HAM)]),
    "nminus.db": database(TABLE, rows=[(0, -2, Z, POS, HAM)]),
    "pos.db": database(TABLE, rows=[(0, 2, Z, POS[:-3], HAM)]),
    "posnan.db": database(TABLE, rows=[(0, 2, Z, (PLACES * np.nan).tobytes(), HAM)]),
    "postext.db": database(TABLE, rows=[(0, 2, Z, "text", HAM)]),
    "z200.db": database(TABLE, rows=[(0, 2, np.array([200, 1], np.int32).tobytes(), POS, HAM)]),
    "ham.db": database(TABLE, rows=[(0, 2, Z, POS, HAM[:-8])]),
    "hamnull.db": database(TABLE, rows=[(0, 2, Z, POS, None)]),
    "hamnan.db": database(TABLE, rows=[(0, 2, Z, POS, (np.eye(10) * np.nan).tobytes())]),
    "view.db": database(
        "CREATE VIEW data AS WITH RECURSIVE c(N) AS (SELECT 1 UNION ALL SELECT N + 1 FROM c) "
        "SELECT N AS id, N, x'01' AS Z, x'02' AS pos, x'03' AS Ham FROM c"
    ),
    # ---- labels, and HDF5 as structures
    "none.h5": h5(lambda handle: None),
    "dataset.h5": h5(lambda handle: handle.create_dataset("a", data=[1])),
    "emptygroup.h5": h5(lambda handle: handle.create_group("0000")),
    "junk.h5": lambda path, kit: path.write_bytes(bytes(range(256)) * 4),
    "empty.h5": lambda path, kit: path.write_bytes(b""),
    "cut.h5": lambda path, kit: path.write_bytes(kit.labels.read_bytes()[:3000]),
    "noatoms.h5": labels_with(
        lambda group: (
            replaced("numbers", np.zeros(0, int))(group),
            replaced("positions", np.zeros((0, 3)))(group),
        )
    ),
    "flat.h5": array("positions", np.ravel),
    "nanplaces.h5": array("positions", lambda old: old * np.nan),
    "textplaces.h5": array("positions", lambda old: "abc"),
    "complexplaces.h5": array("positions", lambda old: old + 1j),
    "groupplaces.h5": array("positions", lambda old: "group"),
    "noplaces.h5": array("positions", lambda old: None),
    "groupz.h5": array("numbers", lambda old: "group"),
    "textz.h5": array("numbers", lambda old: "HH"),
    "z200.h5": array("numbers", lambda old: old * 200),
    "zminus.h5": array("numbers", lambda old: -old),
    "zhalf.h5": array("numbers", lambda old: old + 0.5),
    "threez.h5": array("numbers", lambda old: [1, 1, 1]),
    "scalarz.h5": array("numbers", lambda old: 1),
    "textcharge.h5": attribute("charge", "plus"),
    "halfcharge.h5": attribute("charge", 0.5),
    "listcharge.h5": attribute("charge", [0, 1]),
    "nocharge.h5": attribute("charge", None),
    "negspin.h5": attribute("spin", -2),
    "textgrid.h5": attribute("grid_level", "fine"),
    "textenergy.h5": attribute("energy", "much"),
    "nanenergy.h5": attribute("energy", float("nan")),
    "noenergy.h5": attribute("energy", None),
    "order.h5": attribute("ao_order", "orca"),
    "units.h5": attribute("units", "eV"),
    "xc.h5": attribute("xc", "nonsense"),
    "otherxc.h5": attribute("xc", "pbe0"),
    "noxc.h5": attribute("xc", 3),
    "basis.h5": attribute("basis", "def2-svp"),
    "converged.h5": attribute("converged", "yes"),
    "notconverged.h5": attribute("converged", False),
    "complexfock.h5": array("fock", lambda old: old + 1j),
    "textfock.h5": array("fock", lambda old: "abc"),
    "groupfock.h5": array("fock", lambda old: "group"),
    "nofock.h5": array("fock", lambda old: None),
    "nanfock.h5": array("fock", lambda old: old * np.nan),
    "flatfock.h5": array("fock", np.ravel),
    "bigfock.h5": array("fock", lambda old: np.zeros((3, 3))),
    "lopsidedfock.h5": array("fock", lopsided),
    "objectfock.h5": array("fock", lambda old: np.array([b"a", b"b"])),
    "threespins.h5": array("fock", lambda old: np.stack([old] * 3)),
    "bigdensity.h5": array("density", lambda old: np.zeros((3, 3))),
    "lopsideddensity.h5": array("density", lopsided),
    "infdensity.h5": array("density", lambda old: old * np.inf),
    "energylength.h5": array("mo_energy", lambda old: old[:-1]),
    "energynan.h5": array("mo_energy", lambda old: old * np.nan),
    "energymatrix.h5": array("mo_energy", lambda old: np.zeros((2, 2))),
    "energycomplex.h5": array("mo_energy", lambda old: old + 1j),
    "occlength.h5": array("mo_occ", lambda old: [2.0]),
    "occsum.h5": array("mo_occ", lambda old: [2.0, 2.0]),
    "occnone.h5": array("mo_occ", lambda old: [0.0, 0.0]),
    "othercharge.h5": attribute("charge", 1),
    "otherspin.h5": attribute("spin", 2),
    "grid77.h5": attribute("grid_level", 77),
    "pathbasis.h5": attribute("basis", "../b.nw"),
    "codebasis.h5": attribute("basis", "H S\n 3.4 open('ran_code','w')or(0.15)\n"),
    "codefit.h5": attribute("auxbasis", "H S\n 3.4 open('ran_code','w')or(0.15)\n"),
    "longbasis.h5": attribute("basis", "x" * 60_000),
    "longxc.h5": attribute("xc", "pbe," * 15_000),
    "outsidefock.h5": labels_with(
        lambda group: (
            group.__delitem__("fock"),
            group.__setitem__("fock", h5py.ExternalLink("labels.h5", "/0000/fock")),
        )
    ),
    "occthree.h5": array("mo_occ", lambda old: old * 1.5),
    "occminus.h5": array("mo_occ", lambda old: -old),
    "occtext.h5": array("mo_occ", lambda old: "ab"),
    "secondbad.h5": two_labels(replaced("mo_occ", [2.0])),
    # ---- models
    "cutmodel": model_with(lambda d: None, weights=truncate(200)),
    "emptyweights": model_with(lambda d: None, weights=lambda f: f.write_bytes(b"")),
    "halfweights": model_with(lambda d: None, weights=changed_weights(lambda v: v.half())),
    "wholeweights": model_with(lambda d: None, weights=changed_weights(lambda v: v.int())),
    "nanweights": model_with(lambda d: None, weights=changed_weights(lambda v: v * float("nan"))),
    "junkweights": model_with(lambda d: None, weights=lambda f: f.write_bytes(b"\x80" * 500)),
    "pickle": model_with(lambda d: None, weights=lambda f: f.write_bytes(b"\x80\x04N.")),
    "longweights": model_with(lambda d: None, weights=append(b"more")),
    "noweights": model_with(lambda d: None, weights=lambda f: f.unlink()),
    "nojson": lambda path, kit: (shutil.copytree(kit.model, path), (path / "model.json").unlink()),
    "emptyjson": model_with(lambda d: ""),
    "junkjson": model_with(lambda d: bytes(range(256))),
    "wordjson": model_with(lambda d: "{not json"),
    "listjson": model_with(lambda d: "[1]"),
    "nulljson": model_with(lambda d: "null"),
    "objectjson": model_with(lambda d: "{}"),
    "deepjson": model_with(lambda d: DEEP),
    "deepfield": model_with(lambda d: json.dumps(d)[:-1] + ', "x": ' + DEEP + "}"),
    "digitsjson": model_with(lambda d: json.dumps(d)[:-1] + ', "x": ' + "9" * 5000 + "}"),
    "utf16json": model_with(lambda d: json.dumps(d).encode("utf-16")),
    "zerojson": lambda path, kit: (
        shutil.copytree(kit.model, path),
        (path / "model.json").unlink(),
        (path / "model.json").symlink_to("/dev/zero"),
    ),
    "zeroweights": lambda path, kit: (
        shutil.copytree(kit.model, path),
        (path / "model.safetensors").unlink(),
        (path / "model.safetensors").symlink_to("/dev/zero"),
    ),
    "pipejson": lambda path, kit: (
        shutil.copytree(kit.model, path),
        (path / "model.json").unlink(),
        os.mkfifo(path / "model.json"),
    ),
    "kind": field(kind="another model"),
    "version0": field(format_version=0),
    "version99": field(format_version=99),
    "versiontext": field(format_version="1"),
    "fingerprint": field(cg_fingerprint="0" * 16),
    "sha": field(sha256="0" * 64),
    "nonetwork": model_with(lambda d: d.pop("network")),
    "networklist": field(network=[1]),
    "nomethod": model_with(lambda d: d.pop("method")),
    "methodlist": field(method=[1]),
    "elementsnone": field(elements=[]),
    "elementsmore": field(elements=[1, 8]),
    "elementstext": field(elements=["H"]),
    "shells": field(shells={"1": [0, 1]}),
    "basisnumber": field(basis=3),
    "basisother": field(basis="def2-svp"),
    "xcother": field(xc="pbe0"),
    "unitsother": field(units="eV"),
    "orderother": field(ao_order="orca"),
    "cartword": field(cart="no"),
    "gridword": field(grid_level="fine"),
    "calibrationlist": field(calibration=[1]),
    "calibrationempty": field(calibration={}),
    "calibrationtext": field(calibration={"n": 0, "coverage": "much", "quantiles": {}}),
    "hybtext": field(hyb="much"),
    "componentstext": field(xc_components="pbe"),
    "cutoffminus": network(cutoff=-1),
    "cutoffzero": network(cutoff=0),
    "cutofftext": network(cutoff="nan"),
    "cutoffbig": network(cutoff=1e300),
    "cutoffnull": network(cutoff=None),
    "inputsfoo": network(inputs="foo"),
    "interactionfoo": network(interaction="foo"),
    "layershuge": network(n_layers=10**9),
    "layersminus": network(n_layers=-1),
    "layersmore": network(n_layers=7),
    "layershalf": network(n_layers=1.5),
    "layerstext": network(n_layers="2"),
    "layerstrue": network(n_layers=True),
    "radialzero": network(n_radial=0),
    "radialhuge": network(n_radial=10**12),
    "radialmore": network(n_radial=17),
    "embeddingzero": network(embedding=0),
    "embeddingmore": network(embedding=64),
    "naturalhuge": network(natural=[10**9]),
    "naturallong": network(natural=[16, 16]),
    "naturaltext": network(natural="many"),
    "naturalmore": network(natural=[18]),
    "pairshort": network(pair=[24]),
    "pairminus": network(pair=[24, -8]),
    "slotsnone": model_with(lambda d: d["network"]["layout"].update(slots=[])),
    "slotsmore": model_with(lambda d: d["network"]["layout"].update(slots=[5])),
    "slotsminus": model_with(lambda d: d["network"]["layout"].update(slots=[-1])),
    "shellsz999": model_with(lambda d: d["network"]["layout"].update(shells={"999": [0]})),
    "shellsword": model_with(lambda d: d["network"]["layout"].update(shells={"H": [0]})),
    "shellsl99": model_with(lambda d: d["network"]["layout"].update(shells={"1": [99]})),
    "shellsnone": model_with(lambda d: d["network"]["layout"].update(shells={})),
    "layoutnone": model_with(lambda d: d["network"].pop("layout")),
    "unknownkey": network(nonsense=1),
    "methodgrid": method(grid_level=77),
    "methodbasis": method(basis=""),
    "methodxc": method(xc="nonsense"),
    "methodkey": method(nonsense=1),
    "methodcharge": method(charge="plus"),
    # ---- runs
    "nosummary": run_with("summary.json", None),
    "summaryempty": run_with("summary.json", ""),
    "summaryword": run_with("summary.json", "{not json"),
    "summarylist": run_with("summary.json", "[1]"),
    "summarydeep": run_with("summary.json", DEEP),
    "summaryobject": run_with("summary.json", "{}"),
    "structurestext": run_with("summary.json", lambda d: d.update(structures="many")),
    "structureslist": run_with("summary.json", lambda d: d.update(structures=[1])),
    "failednumber": run_with("summary.json", lambda d: d.update(failed=5)),
    "buildstext": run_with("summary.json", lambda d: d.update(fock_builds="many")),
    "runmodellist": run_with("model.json", "[1]"),
    "runmodelword": run_with("model.json", "{not json"),
    "predictionsjunk": run_with("predictions.h5", bytes(range(256))),
    "predictionsempty": run_with("predictions.h5", ""),
    "densityshape": in_run("predictions.h5", replaced("density", np.zeros((3, 3)))),
    "overlapshape": in_run("predictions.h5", replaced("overlap", np.zeros((3, 3)))),
    "focktext": in_run("predictions.h5", replaced("fock", "abc")),
    "occshape": in_run("predictions.h5", replaced("mo_occ", [2.0])),
    "occsum": in_run("predictions.h5", replaced("mo_occ", [2.0, 2.0])),
    "gridtext": in_run("predictions.h5", lambda group: group.attrs.update(grid_level="fine")),
    "codefit": in_run(
        "predictions.h5", lambda group: group.attrs.update(auxbasis="H S\n eval 1\n")
    ),
    "longbasis": in_run("predictions.h5", lambda group: group.attrs.update(basis="x" * 60_000)),
    "rebuiltshape": in_run("predictions.h5", replaced("fock_rebuilt", np.zeros((3, 3)))),
    "numberstext": in_run("predictions.h5", replaced("numbers", "HH")),
    "nodensity": in_run("predictions.h5", replaced("density", None)),
    "configlist": run_with("config.json", "[1]"),
    "configobject": run_with("config.json", "{}"),
    "configempty": run_with("config.json", ""),
    "configdeep": run_with("config.json", DEEP),
    "configframes": run_with("config.json", lambda d: d.update(frames=[1])),
    "configconfig": run_with("config.json", lambda d: d.update(config=3)),
    "stateobject": run_with("checkpoints/last.ckpt/state.json", "{}"),
    "statelist": run_with("checkpoints/last.ckpt/state.json", "[1]"),
    "stateempty": run_with("checkpoints/last.ckpt/state.json", ""),
    "statedeep": run_with("checkpoints/last.ckpt/state.json", DEEP),
    "statenumber": run_with("checkpoints/last.ckpt/state.json", lambda d: d.update(state=3)),
    "stateless": run_with("checkpoints/last.ckpt/state.json", lambda d: d.update(state={})),
    "stateloops": run_with(
        "checkpoints/last.ckpt/state.json", lambda d: d["state"].update(loops=[1])
    ),
    "statefit": run_with("checkpoints/last.ckpt/state.json", lambda d: d["state"].update(fit=[])),
    "statetensors": run_with("checkpoints/last.ckpt/state.safetensors", b"junk"),
}


def make(name: str, folder: Path, kit: Kit) -> None:
    """Put an input of this name into a folder, with what it refers to."""
    path = folder / name
    if os.path.lexists(path):
        return
    if name in MADE:
        MADE[name](path, kit)
    elif name in FILES:
        content = FILES[name]
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        for other in (
            *(f for f in MADE if f.endswith(".h5")),
            "hi.xyz",
            "three.xyz",
            "other.xyz",
            "labels.h5",
        ):
            if name.endswith(".toml") and other in str(content) and other != name:
                make(other, folder, kit)
