"""The part of the site that trains: a view that submits, and the callbacks of a run."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.html import format_html_join
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from arkor_sync import Callbacks, HuggingFaceDataset, LogContext
from arkor_sync.contrib.django import submit
from arkor_sync.contrib.django.models import Run


@csrf_exempt  # so that run.py can press the button
@require_POST
def train(request: HttpRequest) -> JsonResponse:
    """Submit a run. A second press with the same order is the same run: it is paid once."""
    run = submit(
        key=f"order-{request.POST['order']}",
        name="support-bot",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
        max_steps=60,
        save_steps=20,
    )
    # With ATOMIC_REQUESTS the job is sent when this request is committed.
    return JsonResponse({"run": run.pk, "status": run.status})


def show(_request: HttpRequest) -> HttpResponse:
    """List the runs."""
    rows = ((run.name, run.status, run.step, run.loss) for run in Run.objects.all())
    return HttpResponse(format_html_join("", "<p>{}: {}, step {}, loss {}</p>", rows))


def callbacks(run: Run) -> Callbacks:
    """Return what the follower calls for a run, in a transaction with the run's row."""

    def on_log(ctx: LogContext) -> None:
        if ctx.step % 20 == 0:
            print(f"run {run.pk}: step {ctx.step}, loss {ctx.loss:.3f}", flush=True)

    return Callbacks(on_log=on_log)
