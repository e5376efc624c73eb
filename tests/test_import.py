"""Importing the library costs what torch costs: no SNN library, no plotting."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import torch
before = set(sys.modules)
import neuroparam
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names)))
"""


def test_import_loads_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['neuroparam']"


WITHOUT = """
import sys
sys.modules["hypothesis"] = None
import neuroparam
try:
    import neuroparam.testing
except ImportError as error:
    print(error)
"""


def test_strategies_say_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert 'pip install "neuroparam[testing]"' in done.stdout
