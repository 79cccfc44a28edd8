"""A shop that trains a bot for each order: its views submit, and `flask arkor follow` follows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Tuple

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from arkor_sync import Callbacks
from arkor_sync.contrib.flask import Arkor, add_models

DATA = Path(__file__).resolve().parents[1] / "data" / "support_triage.jsonl"

db: Any = SQLAlchemy()
arkor = Arkor()
Submission = add_models(db).Submission


class Order(db.Model):  # type: ignore[misc, name-defined]
    """What the customer sees of it."""

    key = db.Column(db.String, primary_key=True)
    status = db.Column(db.String, nullable=False, default="ordered")
    step = db.Column(db.Integer)
    loss = db.Column(db.Float)


def order_of(ctx: Any) -> Order:
    """Find the order that a job was submitted for. The key is known before the job is followed."""
    submission = db.session.query(Submission).filter_by(job_id=ctx.job.id).one()
    return db.session.get(Order, submission.key)


# The callbacks run in `flask arkor follow`. What they write is committed with the position, so each
# event has its effect once, whatever is killed.


def on_log(ctx: Any) -> None:
    order = order_of(ctx)
    order.status, order.step, order.loss = "training", ctx.step, ctx.loss


def on_end_of_the_job(ctx: Any) -> None:
    order_of(ctx).status = ctx.job.status


CALLBACKS = Callbacks(
    on_log=on_log,
    on_completed=on_end_of_the_job,
    on_failed=on_end_of_the_job,
    on_cancelled=on_end_of_the_job,
)


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite:///shop.db")
    app.config["ARKOR_CALLBACKS"] = CALLBACKS  # the store is the same database
    db.init_app(app)
    arkor.init_app(app)
    app.register_blueprint(arkor.blueprint(), url_prefix="/arkor")

    @app.cli.command("create-orders")
    def create_orders() -> None:
        """Make the table of the orders."""
        Order.__table__.create(db.engine, checkfirst=True)

    @app.post("/orders/<key>")
    def buy(key: str) -> Tuple[Any, int]:
        if db.session.get(Order, key) is None:
            db.session.add(Order(key=key))
            db.session.commit()  # before the job: its callbacks look for the order
        submission = arkor.submit(
            key=key,  # at most one job, however often this view is called
            name="support-bot",
            model="unsloth/gemma-4-E4B-it",
            dataset=DATA,  # of this machine: for the local Arkor; for the cloud a URL or a name
            max_steps=40,
            logging_steps=10,
        )
        return {"order": key, "job": submission.job_id}, 202

    @app.get("/orders/<key>")
    def show(key: str) -> Any:
        order = db.get_or_404(Order, key)
        return {"order": key, "status": order.status, "step": order.step, "loss": order.loss}

    return app
