"""What the benchmarks share: where things are, the program as a user runs it, results written whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stunet_deploy.files import replacing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
#: Folder of the data sets that are not part of the repository.
SHARED = Path(os.environ.get("STUNET_DATA", ROOT.parent / "shared" / "data"))


def stunet(*arguments: str | Path) -> dict[str, Any]:
    """Run one verb with --json and return what it prints; its progress stays visible."""
    command = [sys.executable, "-m", "stunet_deploy", *map(str, arguments), "--json"]
    print("$ stunet", " ".join(map(str, arguments)), flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def write_results(folder: Path, name: str, data: Any, text: str, indent: int | None = None) -> None:
    """Write a page and the JSON behind it, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("json", json.dumps(data, indent=indent) + "\n"), ("md", text)):
        with replacing(folder / f"{name}.{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
