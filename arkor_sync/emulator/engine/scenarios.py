"""Scenarios: named arguments of `ScriptedEngine`. Pure."""

from __future__ import annotations

from typing import Any, Dict

from arkor_sync.emulator.engine.scripted import ScriptedEngine

SCENARIOS: Dict[str, Dict[str, Any]] = {
    "completes": {"steps": 100, "checkpoints": [25, 50, 75, 100]},
    "plateau": {"steps": 100, "plateau": 30},
    "diverges": {"steps": 60, "diverges": 20, "checkpoints": [20]},
    "nan_at": {"steps": 60, "nan_at": 40},
    "fails_at": {"steps": 200, "fails_at": 120, "checkpoints": [100]},
    "silent": {"steps": 60, "silent_at": 20},
    "slow": {"steps": 60, "step_delay": 1.0, "checkpoints": [30, 60]},
    "burst": {"steps": 10_000},
}
"""The scenarios: their names, and the arguments of `ScriptedEngine`."""


def scenario(name: str, **changes: Any) -> ScriptedEngine:
    """Return the engine of a named scenario.

    Args:
        name: One of `SCENARIOS`.
        changes: Arguments of `ScriptedEngine`. They override the scenario's.

    Raises:
        ValueError: There is no such scenario, or no such argument.
    """
    if name not in SCENARIOS:
        raise ValueError(f"unknown scenario {name!r}; there are: {', '.join(SCENARIOS)}")
    try:
        return ScriptedEngine(**{**SCENARIOS[name], **changes})
    except TypeError as error:
        raise ValueError(f"wrong argument for the scenario {name!r}: {error}") from None
