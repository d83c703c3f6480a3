"""Make the picture of the README from a report: its scoreboard and one figure, as a PNG of at most 150 kB.

    python docs/picture.py results/overnight-trajectories/report.html

Needs Chromium (`chromium` or `google-chrome` on PATH). Colours are reduced to 128 to keep the file small.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT, MARGIN, LARGEST_BYTES = 1100, 3000, 16, 150_000
FIGURE = "fig4"
# Everything is hidden but these parts of the page.
HIDE = f"""<style>
header > *:not(h1):not(.facts):not(#scoreboard):not(.scroll), main > section:not(#figures),
#figures > *:not(#{FIGURE}), footer {{ display: none !important; }}
#figures, #{FIGURE} {{ margin: 0; border: 0; padding: 0; }}
h2 {{ margin: .4rem 0; border: 0; padding: 0; }}
.scoreboard td, .scoreboard th {{ padding-bottom: .1rem; padding-top: .1rem; }}
.panels {{ grid-template-columns: repeat(4, 1fr) !important; max-width: none !important; }}
</style></head>"""


def screenshot(report: Path, picture: Path) -> None:
    """Draw the wanted parts of a report in a browser.

    Raises:
        SystemExit: there is no browser.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium: not found on PATH, expected chromium or google-chrome")
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "page.html"
        page.write_text(report.read_text().replace("</head>", HIDE, 1))
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}"]
        subprocess.run([browser, *options, *size, page.as_uri()], check=True, capture_output=True)


def trim(picture: Path) -> None:
    """Cut the empty page below off and reduce the colours.

    Raises:
        SystemExit: the file is still too large.
    """
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    drawn = ImageChops.difference(image, Image.new("RGB", image.size, image.getpixel((0, HEIGHT - 1))))
    bottom = drawn.getbbox()[3] + MARGIN
    # By octree: a median cut gives FAIL the colour of INCONCLUSIVE.
    few_colours = image.crop((0, 0, WIDTH, bottom)).quantize(256, method=Image.Quantize.FASTOCTREE)
    few_colours.save(picture, optimize=True)
    if (found := picture.stat().st_size) > LARGEST_BYTES:
        raise SystemExit(f"{picture}: found {found} bytes, expected at most {LARGEST_BYTES}")


if __name__ == "__main__":
    screenshot(Path(sys.argv[1]), PICTURE)
    trim(PICTURE)
