"""The docs site: Sphinx with MyST over the same Markdown that is read in the repository.

    python -m sphinx -W -b html docs docs/_build

README, ARCHITECTURE and the READMEs of folders lie outside docs/. A page of docs/ includes each, and links to
them and from them are turned to these pages. Links to other files of the repository become plain text: a site
has no copy of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

project = "silica-nnp-suite"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "silica-nnp-suite"
myst_heading_anchors = 4
nitpicky = True

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGE_OF = {
    ROOT / "README.md": DOCS / "readme.md",
    ROOT / "ARCHITECTURE.md": DOCS / "architecture.md",
    ROOT / "reference" / "README.md": DOCS / "reference-data.md",
    ROOT / "containers" / "README.md": DOCS / "image-definitions.md",
    ROOT / "benchmarks" / "README.md": DOCS / "benchmarks.md",
}
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def site_links(text: str, *, written_in: Path, shown_in: Path) -> str:
    """Markdown of a file of the repository with its links turned to pages of the site.

    Args:
        text: the Markdown.
        written_in: folder of the file, from which its links count.
        shown_in: folder of the page of docs/ that shows it.
    """

    def turned(found: re.Match[str]) -> str:
        sign, words, target, anchor = found.groups(default="")
        if "://" in target:
            return found[0]
        path = (written_in / target).resolve()
        page = PAGE_OF.get(path, path)
        if page.exists() and not page.is_relative_to(DOCS):
            return f"{sign}{words}"
        return f"{sign}[{words}]({os.path.relpath(page, shown_in)}{anchor})"

    return LINK.sub(turned, text)


def _on_read(app: Sphinx, docname: str, source: list[str]) -> None:
    folder = (DOCS / docname).parent
    source[0] = site_links(source[0], written_in=folder, shown_in=folder)


def _on_include(app: Sphinx, path: Path, docname: str, source: list[str]) -> None:
    source[0] = site_links(source[0], written_in=(DOCS / path).parent, shown_in=(DOCS / docname).parent)


def setup(app: Sphinx) -> None:
    """Turn links before Sphinx sees them."""
    app.connect("source-read", _on_read)
    app.connect("include-read", _on_include)
