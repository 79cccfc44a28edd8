"""The page of jobs: search, filter, sort, cancel. Runs on the caller's thread."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple

from flask import Blueprint, redirect, render_template, request, url_for

from arkor_sync._common.text import safe_line
from arkor_sync.cloud.models import JobStatus
from arkor_sync.render.job_facts import duration_of, seconds_of
from arkor_sync.render.outcome import describe_outcome, shorten_reason
from arkor_sync.render.text import parse_timestamp
from arkor_sync.studio.state import studio

if TYPE_CHECKING:
    from arkor_sync.cloud.models import TrainingJob

blueprint = Blueprint("jobs", __name__)

ON_A_PAGE = 50
SORTS = {
    "-created": "newest first",
    "created": "oldest first",
    "name": "name, A to Z",
    "-name": "name, Z to A",
    "status": "status",
    "-duration": "longest first",
    "duration": "shortest first",
}
"""The values of the parameter `sort`, and what they are called; the first is the usual one."""

_COLUMNS = {"name": "name", "status": "status", "duration": "-duration", "created": "-created"}
"""The columns, and how each sorts when it is chosen."""


@lru_cache(maxsize=100)
def _shown(status: str) -> str:
    return safe_line(status, 40)  # the cloud may add others


_moment = lru_cache(maxsize=50_000)(parse_timestamp)  # of each job, at each look at the page


_KEYS: Dict[str, Callable[[TrainingJob], Any]] = {
    "created": lambda job: _moment(job.created_at),
    "name": lambda job: (job.name.casefold(), job.id),
    "status": lambda job: _shown(job.status),
    "duration": seconds_of,
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which jobs are asked for, by the parameters of a URL."""

    search: str
    statuses: FrozenSet[str]
    sort: str
    page: int

    @classmethod
    def of(cls, parameters: Any) -> Wanted:
        """Read the parameters. One that says nothing is as if it were not there."""
        page, sort = parameters.get("page", ""), parameters.get("sort", "")
        return cls(
            parameters.get("search", "").strip(),
            frozenset(parameters.getlist("status")),
            sort if sort in SORTS else next(iter(SORTS)),
            int(page) if page.isdecimal() and len(page) < 9 else 1,
        )

    def url(self, **changes: Any) -> str:
        """Return the URL of these jobs, or of others; without what is as usual."""
        new = dataclasses.replace(self, page=1)
        new = dataclasses.replace(new, **changes)
        query: Dict[str, Any] = {"search": new.search, "status": sorted(new.statuses)}
        if new.sort != next(iter(SORTS)):
            query["sort"] = new.sort
        if new.page > 1:
            query["page"] = new.page
        return url_for("jobs.page", **{name: value for name, value in query.items() if value})

    def columns(self) -> List[Tuple[str, str, Optional[str]]]:
        """Return each column, the URL that sorts by it, and how it is sorted now, if it is."""
        columns = []
        for name, first in _COLUMNS.items():
            other = name if first[0] == "-" else f"-{name}"
            sort = other if self.sort == first and other in SORTS else first
            way = "descending" if self.sort[0] == "-" else "ascending"
            now = way if self.sort.lstrip("-") == name else None
            columns.append((name, self.url(sort=sort), now))
        return columns


@dataclasses.dataclass(frozen=True)
class Shown:
    """The jobs of one page.

    Attributes:
        rows: What each shows.
        first: The number of the first, from 1.
        matching: How many jobs match.
        page: The page.
        pages: How many pages there are.
        counts: How many jobs have each status, of those that match the search.
    """

    rows: List[Dict[str, Any]]
    first: int
    matching: int
    page: int
    pages: int
    counts: Dict[str, int]


def choose(jobs: Sequence[TrainingJob], wanted: Wanted) -> Shown:
    """Return the page of the jobs that are asked for, or the last one if there are fewer."""
    found: List[TrainingJob] = list(jobs)
    if wanted.search:
        text = wanted.search.casefold()
        found = [job for job in jobs if text in job.name.casefold() or text in job.id.casefold()]
    numbers: Dict[str, int] = Counter()
    for status, number in Counter(job.status for job in found).items():
        numbers[_shown(status)] += number
    known = dict.fromkeys([*(str(each) for each in JobStatus), *sorted(numbers)])
    if wanted.statuses:
        found = [job for job in found if _shown(job.status) in wanted.statuses]
    found = _sorted(found, wanted.sort)
    pages = max(1, -(-len(found) // ON_A_PAGE))
    page = min(max(1, wanted.page), pages)
    first = (page - 1) * ON_A_PAGE
    rows = [_row(job) for job in found[first : first + ON_A_PAGE]]
    return Shown(rows, first + 1, len(found), page, pages, {each: numbers[each] for each in known})


def _sorted(jobs: List[TrainingJob], sort: str) -> List[TrainingJob]:
    """Sort jobs; those without such a value come last."""
    key = _KEYS[sort.lstrip("-")]
    pairs = [(key(job), job) for job in jobs]
    known = [pair for pair in pairs if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=sort[0] == "-")
    return [job for _, job in known] + [job for value, job in pairs if value is None]


def _row(job: TrainingJob) -> Dict[str, Any]:
    _, reason = describe_outcome(job, None, None)
    return {
        "id": job.id.encode(errors="replace").decode(),
        "name": safe_line(job.name) or "(no name)",
        "status": _shown(job.status),
        "error": safe_line(shorten_reason(reason), 160),
        "started_at": job.started_at,
        "ended_at": job.completed_at if job.is_terminal else None,
        "duration": duration_of(job),
        "created_at": job.created_at,
        "is_terminal": job.is_terminal,
    }


@blueprint.get("/jobs")
def page() -> str:
    """Show the jobs."""
    listing = studio().job_list.read()
    wanted = Wanted.of(request.args)
    shown = choose(listing.jobs, wanted)
    return render_template("jobs.html", listing=listing, wanted=wanted, shown=shown, sorts=SORTS)


@blueprint.get("/jobs/<job_id>/cancel")
def question(job_id: str) -> str:
    """Ask whether to cancel a job, for a browser without scripts."""
    job = studio().client.jobs.get(job_id)
    return render_template("cancel.html", job=_row(job))


@blueprint.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> Any:
    """Cancel a job."""
    job = studio().client.jobs.cancel(job_id)
    studio().job_list.forget()
    if request.accept_mimetypes.best == "application/json":
        return {"status": None if job is None else job.status}
    return redirect(url_for("job.page", job_id=job_id), 303)
