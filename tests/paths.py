"""Where the repository and the folder of real data sets lie: the one place that counts folders."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Real data sets; absent in most checkouts.
DATA = Path(os.environ.get("STUNET_DATA", ROOT.parent / "shared" / "data"))
