"""The engine with real models. Its libraries are large: most machines do without these tests."""

from __future__ import annotations

import os
from importlib.util import find_spec

LIBRARIES = ("torch", "transformers", "peft", "llguidance")

if not all(map(find_spec, LIBRARIES)) and "local" not in os.environ.get("ARKOR_EXTRAS", ""):
    collect_ignore_glob = ["test_*.py"]  # they need the extra `local`
else:
    import torch

    torch.set_num_threads(1)  # for a tiny model, more only wait for each other
