"""Input decks from the templates in `decks/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def fill_deck(template: str, **values: Any) -> str:
    """The text of a template with its values; one that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "decks"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def rows(values: NDArray[np.float64]) -> list[str]:
    """A line of numbers for each row of a table (n, m)."""
    return [" ".join(f"{value:.12g}" for value in row) for row in values]
