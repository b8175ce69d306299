from __future__ import annotations

import json
from pathlib import Path

from runtime.bench.machine import Energy, machine_state, measured_environment


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_settings_and_state_are_read_where_the_kernel_has_them(tmp_path: Path) -> None:
    cpu = tmp_path / "sys/devices/system/cpu"
    for core, kilohertz in enumerate((1_500_000, 2_000_000)):
        write(cpu / f"cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
        write(cpu / f"cpu{core}/cpufreq/scaling_governor", "performance\n")
        write(cpu / f"cpu{core}/thermal_throttle/core_throttle_count", "3\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", "48500\n")
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")

    state, settings = machine_state(None, tmp_path), measured_environment(None, tmp_path)

    assert state["clocks_mhz"] == [1500, 2000]
    assert state["temperatures_c"] == {"cpu-thermal": 48.5}
    assert state["throttled"] == 6
    assert settings["governors"] == ["performance"]
    assert settings["versions"].keys() <= {"tensorrt", "tensorrt-rtx", "tensorrt-lean", "cuda-bindings", "openvino"}
    json.dumps([state, settings], allow_nan=False)


def test_what_the_kernel_does_not_have_is_unknown(tmp_path: Path) -> None:
    state, settings = machine_state(None, tmp_path), measured_environment(None, tmp_path)

    assert (state["clocks_mhz"], state["temperatures_c"], state["throttled"]) == ([], {}, None)
    assert (settings["governors"], settings["boost"], settings["gpu"]) == ([], None, None)
    assert Energy(None, tmp_path).cpu_joules is None


def test_energy_adds_up_over_blocks_and_over_a_full_counter(tmp_path: Path) -> None:
    package = tmp_path / "sys/class/powercap/intel-rapl:0"
    write(package / "max_energy_range_uj", "10000000")
    write(package / "energy_uj", "1000000")
    write(tmp_path / "sys/class/powercap/intel-rapl:0:0/energy_uj", "999")
    energy = Energy(None, tmp_path)

    with energy:
        write(package / "energy_uj", "3000000")
    with energy:
        write(package / "energy_uj", "500000")

    assert energy.cpu_joules == 2.0 + 7.5
    assert energy.gpu_joules is None
