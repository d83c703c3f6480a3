"""What asv tracks: a cost record measured elsewhere, the analysis kernels, the suite's own speed."""

import sys
from pathlib import Path

# asv clears PYTHONPATH; a checkout that is not installed must be found all the same.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
