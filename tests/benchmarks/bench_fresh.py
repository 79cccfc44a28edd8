"""Runs one function in a process of its own, and prints what it returns as JSON: see `fresh`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    call = json.loads(sys.argv[1])
    if not call["orjson"]:
        sys.modules["orjson"] = None  # type: ignore[assignment]
    function = getattr(import_module(call["module"]), call["function"])
    if call["checkout"]:
        package = import_module("arkor_sync").__file__ or ""
        if Path(call["checkout"]).resolve() not in Path(package).resolve().parents:
            raise SystemExit(f"{package} is not of {call['checkout']}")
    print(json.dumps(function(*call["args"])))


if __name__ == "__main__":
    main()
