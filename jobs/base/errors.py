"""Errors that a person reads: one line, no traceback."""

ERROR_EXIT = 2
"""Exit code of a command that stopped with a one-line error."""


class SuiteError(Exception):
    """Wrong input or a failed engine; the message is one line that says what was found and expected."""


class EngineError(SuiteError):
    """An outside program failed; the message ends with the path of its log."""


class NotInstalled(EngineError):  # noqa: N818
    """An outside program is not there; the message says where it was looked for."""


def option(name: str) -> str:
    """An option as a person types it, for messages: `--timestep-fs` of `timestep_fs`."""
    return f"--{name.replace('_', '-')}"
