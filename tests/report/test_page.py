"""The page: what it says, what it embeds, what it survives."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.host.files import write_json
from deeph_zero.report import data, page, volumes
from deeph_zero.report.page import render, write_plots, write_report

VOID = {"meta", "input", "link", "br", "img", "hr"}


class Page(HTMLParser):
    """Elements, attributes and text; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            last = next(a for t, a in reversed(self.tags) if t == "script")
            self.scripts[last.get("id", "")] = data
        elif "style" not in self.open:
            self.text += data

    @property
    def scenes(self) -> list[dict]:
        return json.loads(self.scripts["scenes"])["scenes"] if "scenes" in self.scripts else []


def page_of(run: Path, **options) -> Page:
    return Page(render(data.read_source(run), **options))


def test_water_page_says_what_the_files_say(water_run, water):
    out = write_report(water_run, water_run / "report.html")
    page = Page(out.read_text("utf-8"))
    assert out.stat().st_size < 5_000_000
    for words in (
        "H₂O", f"{water.mf.e_tot:.8f}", "3.4 µEh", "pbe/sto-3g", "11", "1 min 23 s", "Converged.",
        "variational", "deeph-zero fit mol.xyz", "608204ff", "0.6.0", "def2-universal-jfit",
        "1 GGA_X_PBE", "tolerance 1e-05", "the 10 electrons",
    ):  # fmt: skip
        assert words in page.text, words
    labels = [a["aria-label"] for t, a in page.tags if t == "svg"]
    assert labels == [
        "Training loss", "Distance from self-consistency", "Estimated energy error",
        "Fock builds spent", "Orbital energies", "Fock matrix |F|", "Residual |H − F[P]|",
    ]  # fmt: skip
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", out.read_text("utf-8")))
    assert used <= set(ids)


def test_page_needs_no_network(water_run):
    page = page_of(water_run)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:")), (tag, name, value)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy, "falls back to 'none'"
    css = (Path(volumes.__file__).parent / "templates/report.css").read_text()
    assert "@import" not in css
    assert "url(" not in css


def test_embedded_surfaces_are_the_stored_density(water_run, water):
    page = page_of(water_run)
    (scene,) = page.scenes
    assert scene["symbols"] == ["O", "H", "H"]
    assert list(scene["fields"]) == ["homo", "lumo", "density"]
    density = volumes.unpack(scene["fields"]["density"])
    assert len(density) == np.prod(scene["shape"])
    ao = water.mol.eval_gto("GTOval", grid_of(scene))
    exact = np.einsum("pi,pi->p", ao @ water.mf.make_rdm1(), ao)
    seen = (exact > 0.002) & (exact < volumes.CLIP)
    np.testing.assert_allclose(density[seen], exact[seen], rtol=0.02)


def grid_of(scene) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, scene["shape"]), indexing="ij"), -1).reshape(-1, 3)
    return (np.array(scene["origin"]) + scene["spacing"] * index) / 0.52917721092


def test_unrestricted_page(ch3_run):
    page = page_of(ch3_run)
    assert "unrestricted" in page.text
    assert "0.7535" in page.text
    assert "a pure spin state has 0.7500" in page.text
    assert "-0.1900 / -0.3500" in page.text
    labels = [a["aria-label"] for t, a in page.tags if t == "svg"]
    assert {"Fock matrix |F|, α", "Residual |H − F[P]|, β"} <= set(labels)
    assert "spin_density" in page.scenes[0]["fields"]


def test_many_frames_worst_and_best_first(frames_run):
    page = page_of(frames_run)
    assert [s["label"] for s in page.scenes] == [f"mol.xyz:{k} (H₂O)" for k in (1, 3, 0)]
    assert "4 structures of H₂O" in page.text
    assert "200 µEh (mol.xyz:1)" in page.text
    assert "3 of 4 reached the tolerance; it ended because the planned steps were done" in page.text
    assert "Shown are 3 of 4 structures" in page.text
    keys = [a.get("data-key") for t, a in page.tags if t == "td"]
    assert keys.count("mol.xyz:2") == 1
    assert "NaN" not in page.scripts["scenes"]
    assert page_of(frames_run, molecules=0).scenes == []


def test_only_a_training_got_somewhere(frames_run, tmp_path):
    """Errors by structure are shown of labels too, but no epochs and no final network."""
    assert "Curves are means over the steps of an epoch" in page_of(frames_run).text
    shutil.copy(frames_run / "predictions.h5", tmp_path / "out.h5")
    shutil.copy(frames_run / "summary.json", tmp_path / "out.json")
    text = page_of(tmp_path / "out.h5").text
    assert "Structure by structure" in text
    assert "epoch" not in text
    assert "How it got there" not in text


def test_hostile_names_stay_text(tmp_path, water, make):
    evil = "<script>alert(1)</script>\"'&$x$.xyz"
    run = make.run(
        tmp_path / "run", [make.entry(water, file=evil)], [water.group(file=evil)],
        command=f"deeph-zero fit {evil}", xc="</style><b>", basis="</script>",
        failed=[{"file": evil, "frame": None, "error": "<img src=x onerror=alert(2)>"}],
    )  # fmt: skip
    text = render(data.read_source(run))
    page = Page(text)
    assert "<script>alert(1)" not in text
    assert not [t for t, a in page.tags if t in ("img", "b")]
    assert "<script>alert(1)</script>" in page.text
    assert len([t for t, _ in page.tags if t == "script"]) == 3


def test_unfinished_run_and_values_that_are_no_numbers(tmp_path, water, make):
    empty = dict.fromkeys(make.entry(water)) | {"file": "mol.xyz", "frame": 0, "converged": False}
    run = make.run(
        tmp_path / "run", [empty], [], metrics="", converged=False, stopped_by="interrupt",
        wall_time_s=None, fock_builds=None, limits=None,
    )  # fmt: skip
    page = page_of(run)
    assert "No energy was computed." in page.text
    assert "Not converged; it ended because it was interrupted." in page.text
    assert page.scenes == []
    odd = make.entry(water, energy="much", homo=[None, "x"], dipole=[1, None, 2], gap={"a": 1})
    write_json(run / "summary.json", make.summary([odd], failed=["?"], limits=[1]))
    assert "No energy was computed." in page_of(run).text


def test_a_run_without_metrics_or_matrices(water_run):
    (water_run / "metrics.csv").unlink()
    (water_run / "predictions.h5").unlink()
    (water_run / "model.json").unlink()
    page = page_of(water_run)
    assert "The file with the matrices is missing" in page.text
    assert not [t for t, _ in page.tags if t == "svg"]


def test_one_atom_one_electron_and_no_empty_level(tmp_path, make):
    for k, (atom, spin) in enumerate([("H 0.1 0.2 0.3", 1), ("He 0 0 0", 0)]):
        solved = make.solve(atom, spin=spin)  # STO-3G: helium has no empty orbital
        run = make.run(tmp_path / f"run{k}", [make.entry(solved)], [solved.group()])
        (scene,) = page_of(run).scenes
        expected = ["homo_alpha", "lumo_beta"] if spin else ["homo"]
        assert [f for f in scene["fields"] if "density" not in f] == expected


def test_unknown_basis_leaves_the_surfaces_out(water_run):
    with h5py.File(water_run / "predictions.h5", "a") as handle:
        handle["0000"].attrs["basis"] = "my-basis.dat"
    page = page_of(water_run)
    assert "No surfaces and blocks for mol.xyz:0" in page.text
    assert page.scenes == []
    assert [a for t, a in page.tags if t == "svg"][-1]["aria-label"] == "Residual |H − F[P]|"


def test_predictions_and_labels(tmp_path, water, make):
    arrays, attributes = water.group()
    run = make.run(tmp_path / "run", [make.entry(water, converged=None)], [(arrays, attributes)])
    shutil.copy(run / "predictions.h5", tmp_path / "out.h5")
    shutil.copy(run / "summary.json", tmp_path / "out.json")
    page = page_of(tmp_path / "out.h5")
    assert "Prediction by a trained network" in page.text
    assert "No convergence was asked for" in page.text
    assert "--refine 1e-5" in page.text
    with h5py.File(tmp_path / "out.h5", "a") as handle:
        del handle["0000/fock_rebuilt"], handle["0000"].attrs["refined"]
    page = page_of(tmp_path / "out.h5")
    assert "Reference data" in page.text
    assert "The self-consistent field calculation ended at" in page.text


def test_intervals_and_why_they_may_not_hold(tmp_path, water, make):
    given = {"energy": [-75.31, -75.30999], "homo": [[-0.25, -0.249997], None], "gap": "x"}
    records = [
        make.entry(water, intervals=given),
        make.entry(water, intervals=given, out_of_distribution=["charge 1 and <b>spin</b> 1"]),
    ]
    texts = []
    for k, record in enumerate(records):
        run = make.run(tmp_path / f"run{k}", [record], [water.group()])
        texts.append(page_of(run).text)
        assert "energy -75.310000 to -75.309990 Eh" in texts[k]
        assert "HOMO -0.2500000 to -0.2499970 Eh." in texts[k]
    assert "promise nothing" not in texts[0]
    assert "promise nothing for this structure: charge 1 and <b>spin</b> 1." in texts[1]


def test_refined_energy_is_the_answer(tmp_path, water, make):
    record = make.entry(water, refined_energy=water.mf.e_tot - 4e-6, refine_iterations=3)
    run = make.run(tmp_path / "run", [record], [water.group()])
    text = page_of(run).text
    assert f"The refined (self-consistent) energy is {water.mf.e_tot - 4e-6:.8f} Eh." in text
    assert "4.0 µEh below: the true error" in text
    assert "Before refinement: orbital gradient" in text


def test_broken_group_is_wrong_input(water_run):
    with h5py.File(water_run / "predictions.h5", "a") as handle:
        del handle["0000/overlap"]
    with pytest.raises(InputError, match="group 0000"):
        page_of(water_run)


def test_plots_are_files(frames_run):
    folder = frames_run / "report_plots"
    paths = write_plots(frames_run, folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)
    names = {p.stem for p in paths}
    assert {"loss", "residual", "errors", "levels_0001", "fock_0001", "residual_0001"} <= names
    for path in paths:
        head = path.read_bytes()[:5]
        assert head == (b"<?xml" if path.suffix == ".svg" else b"\x89PNG\r")


def test_same_run_same_page(water_run):
    source = data.read_source(water_run)
    assert render(source) == render(source)


def test_heat_map_shows_the_matrix(water_run, water):
    """The picture in the page: its brightest pixel is where the largest element is."""
    text = render(data.read_source(water_run))
    picture = re.search(r'aria-label="Fock matrix \|F\|".*?base64,([^"]+)"', text, re.DOTALL)
    assert picture is not None
    import io

    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture[1]))).convert("L"), int)
    nao = len(water.fock)
    assert pixels.shape[0] == pixels.shape[1]
    at = np.argwhere(pixels == pixels.max())[0] * nao // len(pixels)
    largest = np.unravel_index(np.abs(water.fock).argmax(), water.fock.shape)
    assert tuple(at) == tuple(largest)


def test_a_certificate_is_of_the_least_certain_one():
    """Crystals are not looked at closely, and labels have no estimates."""
    errors = (1e-6, 3e-6, None)
    entries = [{"file": "a", "frame": k, "energy_error_estimate": e} for k, e in enumerate(errors)]
    structures = [data.Structure(entry=e, group=f"{k:04d}") for k, e in enumerate(entries)]
    found = page._least_certain(structures)
    assert found is structures[1]
    assert page._which(structures[1]) == "a:1, the least certain one"
    assert page._which(structures[2]) == "a:2"
    alone = data.Structure(entry=entries[0])
    assert page._least_certain([alone]) is alone
    assert page._least_certain([]) is None


def test_json_cannot_end_its_script():
    text = page._json_in_script({"a": "</script><!-- & ü"})
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text) == {"a": "</script><!-- & ü"}


@pytest.mark.parametrize(
    ("kind", "hdf5", "closes", "shown", "words"),
    [
        ("run", None, 0, 0, "The file with the matrices is missing: no orbitals"),
        ("matrices", Path("a.h5"), 0, 0, "Functions that are known by their angular momenta"),
        ("run", Path("a.h5"), 0, 0, "No structure was finished"),
        ("run", Path("a.h5"), 1, 1, "Shown are 2 of 3 structures, .* a larger number of molecules"),
        ("matrices", Path("a.h5"), 0, 3, None),
        ("run", Path("a.h5"), 3, 0, None),
    ],
)
def test_what_is_missing_on_a_page_is_a_note(kind, hdf5, closes, shown, words):
    structures = [data.Structure(entry={"file": "a", "frame": k}) for k in range(3)]
    source = data.Source(
        path=Path("run"), kind=kind, summary_path=Path("s.json"), summary={}, structures=structures,
        metrics={}, model={}, hdf5=hdf5,
    )  # fmt: skip
    close = page._Close.__new__(page._Close)
    close.structure, close.note = structures[0], ""
    notes = page._notes(source, [close] * closes, 3, shown=shown)
    assert len(notes) == (words is not None)
    assert words is None or re.search(words, notes[0])
    if closes:
        close.note = "expected a basis"
        notes = page._notes(source, [close], 3, shown=2)
        assert notes == ["No surfaces and blocks for a:0 (): expected a basis."]
