"""What is said where an optional library is missing: a command that installs it, from anywhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from runpy import run_path
from typing import Any, Callable, Dict, Tuple

import pytest

import arkor_sync
from arkor_sync import ArkorUsageError, handlers
from arkor_sync._common import extras
from arkor_sync.contrib.celery import make_follow_task
from arkor_sync.contrib.flask import Arkor
from arkor_sync.emulator.engine.lora.engine import LIBRARIES, PYTHONS
from arkor_sync.studio import create_app
from support.extras import EXTRAS, FOR_USERS

CALL = re.compile(r'import_extra\(\s*"([\w.]+)",\s*"([\w-]+)"')
PACKAGE = Path(arkor_sync.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

USES: Dict[str, Tuple[str, Callable[[], Any]]] = {
    "apprise": ("apprise", lambda: handlers.AppriseNotifier("json://127.0.0.1")),
    "celery": ("celery", lambda: make_follow_task(None)),
    "database": ("sqlalchemy", lambda: handlers.DatabaseLogger("sqlite://")),
    "datadog": ("datadog", lambda: handlers.DatadogEvents("key")),
    "django": ("django", lambda: run_path(str(PACKAGE / "contrib" / "django" / "__init__.py"))),
    "flask": ("flask", Arkor),
    "mlflow": ("mlflow", handlers.MLflowLogger),
    "notebook": ("IPython.display", handlers.NotebookPlot),
    "opentelemetry": ("opentelemetry.metrics", handlers.OpenTelemetryMetrics),
    "plot": ("matplotlib.figure", lambda: handlers.LossPlot("loss.png")),
    "posthog": ("posthog.request", lambda: handlers.PostHogCapture("key")),
    "redis": ("redis", lambda: arkor_sync.RedisCursorStore("redis://127.0.0.1")),
    "studio": ("flask", lambda: create_app(authorize=lambda environ, changes: False)),
    "tensorboard": ("tensorboardX.summary", lambda: handlers.TensorBoardLogger("runs")),
    "wandb": ("wandb", handlers.WandbLogger),
}


@pytest.mark.parametrize("extra", USES)
def test_without_the_library_the_error_has_the_command_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, use = USES[extra]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArkorUsageError) as caught:
        use()
    requirement, _, marker = EXTRAS[extra][0].partition(";")
    told = str(caught.value)
    assert f"needs the extra {extra!r}: " in told
    assert f"pip install '{requirement}'" in told or marker
    assert "arkor-sync[" not in told  # it is on no index, where that name may be anybody's


def test_a_python_that_an_extra_does_not_serve_is_told_which_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = 'matplotlib>=3.6; python_version < "3.9"'
    monkeypatch.setitem(extras.REQUIREMENTS, "plot", limited)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArkorUsageError, match=r"no release for this Python; use 3\.8 or older"):
        handlers.LossPlot("loss.png")


def test_what_needs_no_library_works_without() -> None:
    handlers.LossPlot("loss.svg")
    handlers.ProgressBar()


def test_the_messages_and_setup_cfg_name_the_same_requirements() -> None:
    named = {extra: "\n".join(EXTRAS[extra]) for extra in FOR_USERS}
    first, last = (f"3.{minor}" for _, minor in (PYTHONS[0], (3, PYTHONS[1][1] + 1)))
    marker = f'; python_version >= "{first}" and python_version < "{last}"'
    assert named.pop("local") == "\n".join(f"{each}{marker}" for each in LIBRARIES.values())
    assert named == extras.REQUIREMENTS


def test_every_library_that_is_imported_is_of_an_extra_and_has_its_test_here() -> None:
    found = [CALL.findall(path.read_text("utf-8")) for path in SOURCES]
    called = [extra for calls in found for _, extra in calls]
    assert set(called) == set(USES)
    calls = sum(path.read_text("utf-8").count("import_extra(") for path in SOURCES)
    assert len(called) == calls - 1  # the definition
