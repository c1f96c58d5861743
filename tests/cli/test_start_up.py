"""What commands import: minutes of a day are lost to libraries that nobody asked for."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "pytorch_lightning", "lightning_fabric", "torchmetrics", "matplotlib", "torch._dynamo", "sympy",
    "e3nn",
)  # fmt: skip
"""Training needs the first three, reports matplotlib, tests e3nn; torch._dynamo is a compiler."""
PREDICT = """
from deeph_zero.cli.main import entry_point
code = entry_point(["predict", "model", "good.xyz", "-o", "out.h5", "-q", "--no-certificate"])
assert code == 0, code
"""


@pytest.mark.parametrize(
    "work",
    [
        "import deeph_zero.model",
        "import deeph_zero as dz; dz.KohnSham, dz.read_structures",
        PREDICT,
        PREDICT.replace(', "--no-certificate"', ""),
    ],
    ids=["import", "names", "predict", "certificate"],
)
def test_a_prediction_loads_neither_lightning_nor_compilers_nor_plots(folder, work):
    script = f"{work}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "torch" in loaded
    assert sorted(loaded & {*HEAVY}) == []
