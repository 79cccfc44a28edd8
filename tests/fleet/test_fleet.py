"""Many processes follow many jobs together, and are killed, stopped, cut off and replaced.

Each seed is a schedule of its own. A few are run by default; more, and a single one again, with
the environment, as well as a fleet of another size::

    ARKOR_FLEET_SCHEDULES=200 python -m pytest -m '' tests/fleet/test_fleet.py
    ARKOR_FLEET_SEED=123 python -m pytest -m '' tests/fleet/test_fleet.py
    ARKOR_FLEET_JOBS=1000 ARKOR_FLEET_KILLS=50 python -m pytest -m '' tests/fleet -k killed
"""
