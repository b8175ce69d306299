from __future__ import annotations

import subprocess

import pytest

from tests.paths import ROOT

UNIT = ROOT / "deploy" / "stunet.service"


@pytest.mark.needs_system_package("systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path):
    # Neither the program nor the user exist here.
    text = UNIT.read_text().replace("/opt/stunet/bin/stunet", "/bin/true")
    text = text.replace("User=stunet", "User=root").replace("Group=stunet", "Group=root")
    (tmp_path / UNIT.name).write_text(text)

    checked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / UNIT.name], capture_output=True, text=True, timeout=60
    )

    assert (checked.returncode, checked.stderr) == (0, "")
