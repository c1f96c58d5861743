"""The device the tests of this folder run on: CUDA where there is one, else a pretended one."""

import pytest
import torch

from deeph_zero.ks.parallel.graphs import GRAPHS_HERE

from .pretended import pretended_cuda


@pytest.fixture(autouse=True)
def seen(request):
    """Counts of a pretended device; None on a real one.

    Counting makes tests slow: it is for those marked ``counts``.
    """
    if torch.cuda.is_available():
        yield None
        return
    with pretended_cuda(count=request.node.get_closest_marker("counts") is not None) as counts:
        GRAPHS_HERE.__init__()  # as in a new process
        yield counts
