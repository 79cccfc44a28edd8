"""Runs the command line, as `python -m arkor_sync`. Runs on the caller's thread."""

import sys

from arkor_sync.cli import main

if __name__ == "__main__":
    sys.exit(main())
