"""Whole runs in which everything goes wrong at random, held against what was promised.

Each seed is a schedule of its own: a job, faults, callbacks that fail, an error policy, bounds. A
few are run by default; more, and a single one again, with the environment::

    ARKOR_CHAOS=2000 python -m pytest tests/chaos/test_chaos.py
    ARKOR_CHAOS_SEED=1234 python -m pytest tests/chaos/test_chaos.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chaos_driver import Driver, described
from chaos_schedule import draw

from arkor_sync.emulator import Emulator
from support.servers import CERTIFICATE, KEY

SEED = os.environ.get("ARKOR_CHAOS_SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("ARKOR_CHAOS", "60")))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_promised_holds_whatever_goes_wrong(
    seed: int, tmp_path: Path, arkor_no_leaks: None
) -> None:
    schedule = draw(seed)
    emulator = Emulator(
        framing=schedule.framing,
        cancel_emits=schedule.cancel_emits,
        ping_interval=0.04,
        fault_seed=seed,
        tls=(CERTIFICATE, KEY) if schedule.tls else None,
    )
    emulator.faults.add(*schedule.faults)
    with emulator:
        driver = Driver(schedule, emulator, tmp_path)
        try:
            driver.run()
        except BaseException as error:
            again = f"ARKOR_CHAOS_SEED={seed} python -m pytest {Path(__file__).name}"
            trace = "\n".join(f"    {entry}" for entry in driver.trace[-60:])
            raise AssertionError(
                f"{error!r}\n\nrepeat it: {again}\n\n{described(schedule)}\n  trace:\n{trace}"
            ) from error
    assert emulator.errors == []
