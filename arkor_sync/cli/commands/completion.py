"""`completion`: what a shell needs to complete the command line. Runs on the caller's thread."""

from __future__ import annotations

import click

from arkor_sync.cli.command import command
from arkor_sync.cli.output import PROGRAM, Output
from arkor_sync.cli.root import COMPLETES, root


@command(
    root,
    "completion",
    examples="""
    eval "$(arkor-sync completion bash)"                                     # in ~/.bashrc
    eval "$(arkor-sync completion zsh)"                                      # in ~/.zshrc
    arkor-sync completion fish > ~/.config/fish/completions/arkor-sync.fish  # once
    """,
    prints_json=False,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(output: Output, shell: str) -> None:
    """Print a script that completes commands and options in a shell.

    bash (4.4 or later) and zsh evaluate it when they start: put the line below into their file,
    in zsh after `compinit`. fish reads it from a file.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    of_shell = get_completion_class(shell)
    assert of_shell is not None
    # That of bash itself would first run bash, to see its version.
    output.write(ShellComplete.source(of_shell(root, {}, PROGRAM, COMPLETES)).strip() + "\n")


def complete(instruction: str) -> int:
    """Answer the script in the shell.

    Args:
        instruction: What it asks for: `bash_complete`, for instance.
    """
    from click.shell_completion import shell_complete

    return shell_complete(root, {}, PROGRAM, COMPLETES, instruction)
