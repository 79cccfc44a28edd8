"""The application of the processes in `test_flask_servers.py`: it submits, and does not follow."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from arkor_sync import Callbacks, HuggingFaceDataset
from arkor_sync.contrib.flask import Arkor

db: Any = SQLAlchemy()


class Note(db.Model):  # type: ignore[misc, name-defined]
    """What a callback has written."""

    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.String)


def write(ctx: Any) -> None:
    db.session.add(Note(text=f"{ctx.job.name}: {getattr(ctx, 'step', 'completed')}"))


app = Flask(__name__)
app.config.update(
    SQLALCHEMY_DATABASE_URI=os.environ["TEST_DATABASE"],
    ARKOR_TTL=float(os.environ.get("TEST_TTL", "15")),
    ARKOR_CALLBACKS=Callbacks(on_log=write, on_completed=write),
)
db.init_app(app)
arkor = Arkor(app)


@app.post("/train/<key>")
def train(key: str) -> Any:
    submission = arkor.submit(
        key=key,
        name="bot",
        model="unsloth/gemma-4-E4B-it",
        dataset=HuggingFaceDataset("emulator/sample"),
    )
    return {"job": submission.job_id}
