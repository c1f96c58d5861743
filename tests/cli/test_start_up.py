"""What commands import: minutes of a day are lost to libraries that nobody asked for."""

import json
import subprocess
import sys

HEAVY = (
    "pytorch_lightning", "lightning_fabric", "torchmetrics", "matplotlib", "torch._dynamo", "sympy",
    "e3nn",
)  # fmt: skip
"""Training needs the first three, reports matplotlib, tests e3nn; torch._dynamo is a compiler."""
SCRIPT = """
import json, sys

found = {}

def loaded(step):
    found[step] = list(sys.modules)

def predict(*words):
    code = entry_point(["predict", "model", "good.xyz", "-q", *words])
    assert code == 0, code

import deeph_zero.model
loaded("the model")
import deeph_zero as dz
dz.KohnSham, dz.read_structures
loaded("names")
from deeph_zero.cli.main import entry_point
predict("-o", "out.h5", "--no-certificate")
loaded("a prediction")
predict("-o", "other.h5")
loaded("a certificate")
print(json.dumps(found))
"""


def test_a_prediction_loads_neither_lightning_nor_compilers_nor_plots(folder):
    # one process for all steps: what a step loads stays, so the first that has it is the culprit
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["the model", "names", "a prediction", "a certificate"]
    for step, modules in found.items():
        assert "torch" in modules, step
        assert sorted({*modules} & {*HEAVY}) == [], step
