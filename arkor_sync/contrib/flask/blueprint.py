"""A blueprint with the state of a job as JSON. Runs on the caller's thread."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple, Union

from flask import Blueprint

from arkor_sync._common.log import get_logger
from arkor_sync._common.text import safe_line
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.errors import ArkorError, ArkorUsageError, NotFoundError, text_of
from arkor_sync.stores.leased import LeasedStore

logger = get_logger("arkor_sync.flask")

Answer = Union[Dict[str, Any], Tuple[Dict[str, Any], int]]


def make_blueprint(name: str, ask: Callable[[], Tuple[CloudApiClient, LeasedStore]]) -> Blueprint:
    """Make the blueprint; see `Arkor.blueprint`.

    Args:
        name: Its name.
        ask: Returns the client and the store of the current application.
    """
    blueprint = Blueprint(name, __name__)

    @blueprint.get("/jobs/<job_id>")
    def job(job_id: str) -> Answer:
        """Show what the cloud says of a job, and whether it is followed. No configuration."""
        try:
            client, store = ask()
            record, holders = client.jobs.get(job_id), store.holders([job_id])
        except (NotFoundError, ArkorUsageError):
            return {"error": "there is no such job"}, 404
        except ArkorError as error:
            logger.warning(
                "the state of job %s is not known: %s", job_id, safe_line(text_of(error))
            )
            return {"error": "the state of the job cannot be looked up now"}, 503
        holder = holders[0] if holders else None
        return {
            "id": record.id,
            "name": record.name,
            "status": record.status,
            "error": record.error,
            "createdAt": record.created_at,
            "startedAt": record.started_at,
            "completedAt": record.completed_at,
            "followed": holder is not None and holder.expires_in > 0,
            "finished": holder is not None and holder.finished,
        }

    return blueprint
