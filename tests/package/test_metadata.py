"""What setup.cfg says of the package agrees with what CI runs and what the tools are told."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from support.extras import EXTRAS, FOR_DEVELOPERS, FOR_USERS

ROOT = Path(__file__).resolve().parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", "utf-8")
CLASSIFIERS = SETUP["metadata"]["classifiers"].strip().splitlines()
PYTHONS = [
    match[1] for each in CLASSIFIERS if (match := re.fullmatch(r".*Python :: (3\.\d+)", each))
]


OF_SEVERAL = {
    "extras",
    "local",
    "orjson",
    "servers",
    "tests",
}  # sessions of nox for more than one Python


SOME = r'python_version (?:<|>=) "3\.\d+"'


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_pythons_are_those_that_may_install_it_and_none_is_left_out() -> None:
    minors = [int(version.partition(".")[2]) for version in PYTHONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert SETUP["options"]["python_requires"] == f">={PYTHONS[0]}"
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in text_of("README.md")


def test_ci_and_the_tools_take_the_pythons_from_the_classifiers() -> None:
    assert "Python :: (3\\.\\d+)$" in text_of("noxfile.py")
    assert "Python :: \\(3" in text_of(".ci/run")
    assert f'target-version = "py{PYTHONS[0].replace(".", "")}"' in text_of("pyproject.toml")


def test_every_session_of_nox_is_run_by_ci() -> None:
    """Those of several Pythons by `sessions_of`, the others by their names."""
    made = re.findall(r"^@nox\.session(.*)\ndef (\w+)\(", text_of("noxfile.py"), flags=re.MULTILINE)
    by_name = {
        arguments.partition('name="')[2].partition('"')[0] or function
        for arguments, function in made
        if function not in OF_SEVERAL
    }
    listed, _ = re.findall(r"^ *sessions=\((.*)\)$", text_of(".ci/run"), flags=re.MULTILINE)
    (first,) = re.findall(r'nox" "\${options\[@\]}" -s ([a-z ]+) \|\|', text_of(".ci/run"))
    assert {*listed.split(), *first.split()} == by_name
    for arguments, function in made:
        assert (function in OF_SEVERAL) == bool(re.match(r"\(python=\w+\)", arguments))


def test_each_library_of_an_extra_for_users_says_from_which_version_it_works() -> None:
    assert set(EXTRAS) > FOR_DEVELOPERS
    for extra in FOR_USERS:
        for each in EXTRAS[extra]:
            assert re.fullmatch(rf"[\w-]+>=[\d.]+(,<\d+)?(; {SOME}( and {SOME})?)?", each)


def test_no_address_is_given_that_others_may_own() -> None:
    """There is no public address of this repository yet; Arkor's own is known."""
    assert SETUP["metadata"]["project_urls"].split() == ["Arkor", "=", "https://arkor.ai"]
