"""The page in headless Chromium: no error, the viewer draws, the table sorts."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from deeph_zero.report.page import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]

CAPTURE = """<script>
window.problems = [];
addEventListener("error", (e) => problems.push(String(e.message)));
addEventListener("unhandledrejection", (e) => problems.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => problems.push("csp " + e.blockedURI));
for (const kind of ["error", "warn"]) {
  console[kind] = (...words) => problems.push(words.join(" "));
}
</script>"""
PROBE = """<script>
(async () => {
  const found = {};
  const colours = () => {
    const canvas = document.querySelector("#viewer canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    let blue = 0, orange = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
      seen.add(r << 16 | g << 8 | b);
      blue += b > r + 40; orange += r > b + 40;
    }
    return { colours: seen.size, blue, orange };
  };
  try {
    const { report } = window, press = async (name) => {
      const button = document.querySelector(`#fields [data-field=${name}]`);
      button.click();
      for (let k = 0; k < 100 && !document.getElementById("legend").textContent.startsWith(
        name === "molecule" ? "Atoms" : button.textContent); k++) {
        await new Promise((done) => setTimeout(done, 20));
      }
      return { ...colours(), pressed: button.getAttribute("aria-pressed") };
    };
    found.fields = {};
    for (const name of ["molecule", ...Object.keys(report.state.scene.fields)]) {
      found.fields[name] = await press(name);
    }
    const slider = document.getElementById("iso");
    await press("density");
    slider.value = 10;
    slider.dispatchEvent(new Event("input"));
    slider.dispatchEvent(new Event("change"));
    await new Promise((done) => setTimeout(done, 100));
    found.wide = colours();
    found.iso = document.getElementById("iso-value").textContent;
    const column = (k) => [...document.querySelectorAll("#structures tbody tr")]
      .map((row) => row.cells[k].textContent);
    const heads = [...document.querySelectorAll("#structures th")];
    const k = heads.findIndex((head) => head.textContent.startsWith("Error estimate"));
    found.sorted = [];
    for (let click = 0; click < 2; click++) {
      heads[k].querySelector("button").click();
      found.sorted.push([heads[k].getAttribute("aria-sort"), column(k), column(0)]);
    }
    found.choices = document.getElementById("choose").length;
    found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (error) { problems.push(String(error.stack)); }
  found.problems = problems;
  document.documentElement.dataset.found = JSON.stringify(found);
})();
</script>"""


def browse(page: Path, width: int, tmp_path: Path) -> dict:
    """What the probe found in a window of some width."""
    text = page.read_text("utf-8")
    probed = tmp_path / "probed.html"
    text = text.replace("<style>", CAPTURE + "<style>", 1).replace("</body>", PROBE + "</body>")
    probed.write_text(text, "utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--virtual-time-budget=20000", f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    home = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, env=home, check=False)
    match = re.search(r'<html[^>]* data-found="([^"]*)"', done.stdout.decode("utf-8", "replace"))
    assert match is not None, done.stderr[-500:]
    return json.loads(unescape(match[1]))


def test_unrestricted_molecule_is_drawn(ch3_run, tmp_path):
    found = browse(write_report(ch3_run, ch3_run / "report.html"), 500, tmp_path)
    assert found["problems"] == []
    assert found["overflow"] <= 0, "nothing wider than a phone but what scrolls by itself"
    fields = found["fields"]
    assert list(fields) == [
        "molecule", "homo_alpha", "homo_beta", "lumo_alpha", "lumo_beta", "density",
        "spin_density",
    ]  # fmt: skip
    assert all(f["pressed"] == "true" for f in fields.values())
    bare = fields["molecule"]
    assert bare["colours"] > 20, "atoms are drawn"
    for name in ("homo_alpha", "homo_beta", "lumo_alpha", "lumo_beta"):
        assert fields[name]["blue"] > bare["blue"] + 500, name
        assert fields[name]["orange"] > bare["orange"] + 500, name
    assert fields["density"]["blue"] > bare["blue"] + 500
    assert fields["density"]["orange"] <= bare["orange"] + 50, "a density has one sign"
    assert found["wide"]["blue"] > fields["density"]["blue"], "a lower isovalue reaches farther"
    assert float(found["iso"]) < 0.01


def test_table_sorts_and_wide_windows_fit(frames_run, tmp_path):
    found = browse(write_report(frames_run, frames_run / "report.html"), 1600, tmp_path)
    assert found["problems"] == []
    assert found["overflow"] <= 0
    assert found["choices"] == 3
    up, down = found["sorted"]
    assert up[:2] == ["ascending", ["5.0e-07", "3.0e-06", "2.0e-04", "–"]]
    assert down[:2] == ["descending", ["2.0e-04", "3.0e-06", "5.0e-07", "–"]]
    assert down[2] == [f"mol.xyz:{k}" for k in (1, 0, 3, 2)]


def test_a_crystal_is_drawn_in_its_cell(crystal, tmp_path):
    found = browse(write_report(crystal()[1].path, tmp_path / "crystal.html"), 500, tmp_path)
    assert found["problems"] == []
    fields = found["fields"]
    bare = fields["molecule"]
    assert bare["colours"] > 20, "atoms and the edges of cells are drawn"
    for name in ("homo_gamma", "lumo_gamma"):
        assert fields[name]["blue"] + fields[name]["orange"] > bare["blue"] + bare["orange"] + 500
    assert fields["density"]["blue"] > bare["blue"] + 500
    assert fields["density"]["orange"] <= bare["orange"] + 50, "a density has one sign"
