"""Docstrings that show all arguments, also those of the base classes. Pure."""

from __future__ import annotations

import inspect
from typing import Any

_ARGUMENTS = "\n\nArgs:\n"


def inherit_arguments(cls: Any) -> None:
    """Add the base class's list of arguments to a class's docstring, in the signature's order.

    So `help(SlackNotifier)` shows all of them, and each text is written once.
    """
    own, inherited = cls.__dict__.get("__doc__"), cls.__base__.__doc__
    if not own or not inherited:  # Python was started with -OO
        return
    arguments = inspect.cleandoc(inherited).partition(_ARGUMENTS)[2].partition("\n\n")[0]
    text, _, more = inspect.cleandoc(own).partition(_ARGUMENTS)
    cls.__doc__ = f"{text}{_ARGUMENTS}{arguments}\n{more}".rstrip()
