"""Watch a run, and keep what is to be said of it: a report, a picture of its losses, a CSV.

    python examples/report.py            # writes to a new temporary folder
    python examples/report.py FOLDER

The report is one HTML file that opens offline. The PNG needs matplotlib, and the bar in a terminal
needs tqdm (`pip install '.[plot,progress]'`); without them there is an SVG, and plain lines. The
run is one of a local Arkor.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Dict

from arkor_sync import (
    ArkorError,
    Callbacks,
    CheckpointContext,
    DatasetSplit,
    LoraConfig,
    Steps,
    create_trainer,
)
from arkor_sync.emulator import Emulator
from arkor_sync.handlers import HtmlReport, LossPlot, ProgressBar

DATA = Path(__file__).resolve().parent / "data" / "support_triage.jsonl"
PROMPT = [
    {"role": "system", "content": "Triage the customer's message: category, priority, team."},
    {"role": "user", "content": "The lady in your chat was so patient. Please thank her."},
]


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)  # so that a mistake shows before the training
    samples: Dict[int, str] = {}  # filled as the run goes on, read when the report is written

    def on_checkpoint(ctx: CheckpointContext) -> None:
        answer = ctx.infer(PROMPT, temperature=0, max_tokens=160, stream=False)
        samples[ctx.step] = answer.content() or "(nothing)"

    picture = "loss.png" if importlib.util.find_spec("matplotlib") else "loss.svg"
    with Emulator() as emulator:
        trainer = create_trainer(
            name="support-triage",
            model="unsloth/gemma-4-E4B-it",
            dataset=DATA,
            lora=LoraConfig(r=16, alpha=16),
            max_steps=100,
            batch_size=4,
            logging_steps=Steps(1),
            save_steps=Steps(25),
            eval_steps=Steps(10),
            dataset_split=DatasetSplit(test_size=0.1),
            callbacks=[
                ProgressBar(),
                Callbacks(on_checkpoint=on_checkpoint),
                LossPlot(folder / picture),
                HtmlReport(folder / "report.html", samples=samples),
            ],
            client=emulator.client(),
        )
        with trainer.follow() as run:  # also after Ctrl-C what is being drawn gets its time
            result = run.wait()
    run.history.to_csv(folder / "history.csv")
    for name in ("report.html", picture, "history.csv"):
        print(f"written: {folder / name}")
    return 0 if result.status == "completed" else 1


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else tempfile.mkdtemp(prefix="arkor-"))))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArkorError, OSError) as error:
        sys.exit(f"error: {error}")
