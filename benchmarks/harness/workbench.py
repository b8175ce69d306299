"""Where things are, and the program as a user runs it."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CONFIGS = ROOT / "benchmarks" / "configs"
#: Folder of the data sets that are not part of the repository.
SHARED = Path(os.environ.get("STUNET_DATA", ROOT.parent / "shared" / "data"))


def stunet(*arguments: object) -> dict[str, Any]:
    """Run one verb with --json and return its answer; its progress stays visible.

    Raises:
        SystemExit: if it ends with an error.
    """
    from stunet_deploy.cli import main

    print("$ stunet", *arguments, flush=True)
    with redirect_stdout(io.StringIO()) as out:
        code = main([*map(str, arguments), "--json"])
    if code:
        raise SystemExit(code)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer
