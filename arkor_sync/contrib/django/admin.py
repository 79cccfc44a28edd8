"""The runs in Django's admin: to be read, and to be cancelled. Runs on the caller's thread."""

from __future__ import annotations

import json
from typing import Any, List

from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from arkor_sync._common.text import safe_line
from arkor_sync.contrib.django.conf import arkor_settings
from arkor_sync.contrib.django.models import Metric, Run
from arkor_sync.errors import ArkorError, text_of
from arkor_sync.render.chart import PALETTES, Chart, render_svg
from arkor_sync.render.rows import collect_rows

_DRAWN = 20_000  # metrics that are read for a chart

# The admin has a theme of its own, which need not be that of the system.
_STYLE = mark_safe(
    "<style>.arkor-chart{display:block;width:min(860px,100%);height:auto}"
    ".readonly:has(>.arkor-curve){flex:1}"
    + "".join(
        f"html[data-theme={theme}] .arkor-auto .{role}{{color:{color}}}"
        for theme, colors in PALETTES.items()
        for role, color in colors.items()
    )
    + "</style>"
)


@admin.register(Run)
class RunAdmin(admin.ModelAdmin):
    """Runs can be looked at and cancelled; they are made and changed by the program alone."""

    list_display = ("name", "status", "step", "shown_loss", "created_at", "updated_at")
    list_filter = ("status", "created_at")
    search_fields = ("name", "key", "job_id")
    ordering = ("-created_at", "-pk")
    show_full_result_count = False
    actions = ("cancel",)
    fieldsets = (
        (None, {"fields": ("status", "error", "step", "shown_loss", "loss_curve")}),
        (
            "Job",
            {"fields": ("name", "key", "job_id", "created_at", "started_at", "ended_at")},
        ),
        ("Configuration", {"fields": ("shown_config",), "classes": ("collapse",)}),
    )

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds runs here."""
        return False

    def has_change_permission(self, *_: Any) -> bool:
        """Nobody changes runs here."""
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        """Nobody deletes runs here; `manage.py arkor_prune` does."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may view or change runs."""
        may_view: bool = super().has_view_permission(request, obj)
        return may_view or self.has_cancel_permission(request)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whoever may change runs may cancel them."""
        user: Any = request.user
        return bool(user.has_perm("arkor.change_run"))

    @admin.action(description="Cancel the selected runs", permissions=["cancel"])
    def cancel(self, request: HttpRequest, runs: QuerySet[Run]) -> None:
        """Ask the cloud to cancel jobs. The process that follows them writes the end."""
        asked: List[str] = []
        client = arkor_settings().client()
        for run in runs:
            if run.job_id is None or run.is_ended:
                why = "it has ended" if run.is_ended else "it has no job"
                self._tell(request, f"{run.name} is not cancelled: {why}", messages.WARNING)
                continue
            try:
                client.jobs.cancel(run.job_id)
            except ArkorError as error:
                text = f"{run.name} is not cancelled: {text_of(error)}"
                self._tell(request, text, messages.ERROR)
            else:
                asked.append(run.name)
                self.log_change(request, run, "The cloud was asked to cancel its job.")
        if asked:
            text = f"The cloud was asked to cancel: {', '.join(asked)}"
            self._tell(request, text, messages.SUCCESS)

    @admin.display(description="loss", ordering="loss")
    def shown_loss(self, run: Run) -> str:
        """Return the loss with few digits."""
        return "-" if run.loss is None else f"{run.loss:.4g}"

    @admin.display(description="curve")
    def loss_curve(self, run: Run) -> SafeString:
        """Draw the loss."""
        metrics: Any = Metric.objects.using(run._state.db).filter(run=run)
        every = metrics.count() // _DRAWN + 1
        if every > 1:
            metrics = metrics.annotate(part=F("id") % every).filter(part=0)
        rows = collect_rows(each.as_event() for each in metrics.order_by("step", "id"))
        svg = render_svg(Chart(run.name, run.status, rows), heading=False)
        return format_html('<div class="arkor-curve">{}{}</div>', _STYLE, mark_safe(svg))

    @admin.display(description="configuration")
    def shown_config(self, run: Run) -> SafeString:
        """Show the configuration as JSON."""
        return format_html("<pre>{}</pre>", json.dumps(run.config, indent=2, ensure_ascii=False))

    def _tell(self, request: HttpRequest, text: str, level: int) -> None:
        self.message_user(request, safe_line(text), level)
