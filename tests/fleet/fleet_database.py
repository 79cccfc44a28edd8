"""The database of a fleet: what callbacks have written there, and how it is disturbed."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, func, select
from sqlalchemy.pool import NullPool

from support.postgres import Postgres

EFFECTS = Table(
    "effect",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job", Text, nullable=False, index=True),
    Column("event", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("process", Integer, nullable=False),
)
