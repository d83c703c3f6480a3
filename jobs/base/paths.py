"""Where the checkout's folders are. The suite runs from a checkout: reference data lie beside the package."""

from __future__ import annotations

from pathlib import Path

from jobs.base.errors import SuiteError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "reference"


def require_checkout() -> None:
    """Refuse to work from an installed copy, which has code but no reference data.

    Raises:
        SuiteError: there is no `reference/` beside the package.
    """
    if not REFERENCE.is_dir():
        raise SuiteError(f"{REFERENCE}: found no such folder, expected a checkout: pip install -e .")
