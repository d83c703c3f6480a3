"""`python -m jobs`."""

import os
import sys

from jobs.cli.main import main

try:
    try:
        code = main()
    finally:
        sys.stdout.flush()
except BrokenPipeError:
    # The reader (`| head`) has enough. Buffered output would fail again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 141  # as a shell says it of a program that SIGPIPE ended
sys.exit(code)
