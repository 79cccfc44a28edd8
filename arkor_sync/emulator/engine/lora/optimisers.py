"""Makes the optimiser that a job's settings name. Runs on a thread of its own."""

from __future__ import annotations

from typing import Any

from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.lora.settings import Settings


def optimiser_of(settings: Settings, model: Any) -> Any:
    """Return the optimiser of the parameters that a model trains.

    Raises:
        TrainingFailed: Its library is not installed.
    """
    import torch

    parameters = [each for each in model.parameters() if each.requires_grad]
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    name = settings.optimiser
    if name in ("adamw_8bit", "paged_adamw_8bit"):
        try:
            from bitsandbytes import optim
        except ImportError:
            raise TrainingFailed(
                f"optim {name!r} needs bitsandbytes (pip install bitsandbytes); leave it out here, "
                "or use 'adamw_torch'"
            ) from None
        made = optim.AdamW8bit if name == "adamw_8bit" else optim.PagedAdamW8bit
        return made(parameters, **options)
    made = {
        "adamw_torch": torch.optim.AdamW,
        "adamw_torch_fused": lambda *args, **kw: torch.optim.AdamW(*args, fused=True, **kw),
        "adafactor": torch.optim.Adafactor,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }[name]
    return made(parameters, **options)
