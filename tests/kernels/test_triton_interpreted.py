"""The Triton kernels on CPU tensors: Triton's interpreter, in processes of their own.

Triton decides on its interpreter when it is imported. The tests are in interpreted/; what pytest
says of them is checked here, so that none is left out unseen.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FOLDER = Path(__file__).parent / "interpreted"
# Module and the number of its tests at least.
MODULES = {"attention": 355, "psroi": 55, "large": 5}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What pytest prints on each module; they run at the same time."""
    temporary = tmp_path_factory.mktemp("interpreted")
    warning = "ignore:::triton.runtime.interpreter"  # of NumPy, about infinity minus infinity
    options = ["-q", "-W", warning, "-p", "no:cacheprovider", "--basetemp"]
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "pytest", FOLDER / f"{name}.py", *options, temporary / name],
            cwd=FOLDER.parents[2],
            env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in MODULES
    }
    yield {name: process.communicate()[0] for name, process in processes.items()}
    for process in processes.values():
        process.kill()


@pytest.mark.parametrize("module", MODULES)
def test_all_pass(runs, module):
    counts = dict.fromkeys(("passed", "failed", "skipped", "error"), 0)
    for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", runs[module][-300:]):
        counts[word] = int(number)
    assert counts["passed"] >= MODULES[module], runs[module]
    assert counts["failed"] == counts["skipped"] == counts["error"] == 0, runs[module]
