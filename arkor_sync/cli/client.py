"""The client of a command, and the job that an argument names. Runs on the caller's thread."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional, Tuple

from arkor_sync._common.text import safe_line

if TYPE_CHECKING:
    from arkor_sync.cli.output import Output
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.models import TrainingJob


def make_client() -> CloudApiClient:
    """Return a client for who is signed in, in the project of the working directory."""
    from arkor_sync.cloud.client import CloudApiClient  # imports requests

    return CloudApiClient()


def make_signed_in_client() -> CloudApiClient:
    """Return a client for who is signed in. Nobody becomes an anonymous identity by it.

    Raises:
        CredentialsError: Nobody is signed in.
    """
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import credentials_path, find_credentials
    from arkor_sync.errors import CredentialsError

    found = find_credentials()
    if found is None:
        path = credentials_path()
        why = f"{path} holds no credentials" if path.exists() else "nobody is signed in"
        raise CredentialsError(f"{why}; run `arkor-sync login`, or set ARKOR_TOKEN")
    return CloudApiClient(credentials=found)


def find_job(
    client: CloudApiClient,
    job: str,
    output: Output,
    *,
    only: bool = False,
    with_model: bool = False,
) -> TrainingJob:
    """Return the job that an argument names, by its id or its name.

    Args:
        client: Asks the cloud.
        job: The id of a job, or its name. Of several jobs with a name it is the newest, which is
            said.
        output: Tells which one it is.
        only: Refuse a name that several jobs have: what follows cannot be undone.
        with_model: Of several jobs take the newest that has a final model, if there is one.

    Raises:
        ArkorUsageError: There is no such job, or there are several; nothing was changed.
    """
    from arkor_sync.errors import ArkorUsageError, NotFoundError

    try:
        return client.jobs.get(job)
    except NotFoundError:
        named = client.jobs.list(name=job)
    named.sort(key=lambda each: each.created_at, reverse=True)
    if not named:
        raise ArkorUsageError(
            f"no job of this project has the id or the name {safe_line(job)!r}; "
            "`arkor-sync jobs list` shows them"
        )
    if len(named) > 1:
        ids = ", ".join(f"{each.id} ({each.status})" for each in named[:5])
        several = f"{len(named)} jobs are named {safe_line(job)!r}, the newest first: {ids}"
        if only:
            raise ArkorUsageError(f"{several}; give the id of one")
        if with_model and not has_model(named[0]):
            for each in filter(has_model, named):
                output.note(f"{several}; taking {each.id}, the newest that has a final model")
                return each
        output.note(f"{several}; taking the newest")
    return named[0]


def has_model(job: TrainingJob) -> bool:
    """Whether a job may have a final model: one in a state that is not known here may."""
    from arkor_sync.cloud.models import JobStatus

    return job.status == JobStatus.COMPLETED or job.status not in frozenset(JobStatus)


def split_step(text: str) -> Tuple[str, Optional[int]]:
    """Split `JOB@STEP`. Only digits behind the last `@` are a step: names may hold an `@`."""
    found = re.fullmatch("(.+)@([0-9]{1,18})", text, re.DOTALL)
    return (found[1], int(found[2])) if found else (text, None)
