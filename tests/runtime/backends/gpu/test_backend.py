"""Slots, phases, graphs and waits of the GPU backend, on memory that refuses every wrong access."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.base import open_backend
from runtime.backends.gpu import backend as module
from runtime.backends.gpu.backend import DeviceBackend
from runtime.window import Window
from stunet_deploy.contract import StepContract
from stunet_deploy.errors import StreamError
from stunet_deploy.testing import sample_inputs, verify_stateful_step


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def draw_inputs(contract, rng, batch):
    return {name: array[:, 0] for name, array in sample_inputs(contract, rng, batch, 1).items()}


def both_step(device, cpu, rng, steps):
    for _ in range(steps):
        inputs = draw_inputs(cpu.contract, rng, cpu.batch)
        same(device.step(inputs), cpu.step(inputs))


tap_sets = st.lists(
    st.sets(st.integers(1, 5), min_size=1, max_size=4).map(lambda ages: tuple(sorted(ages, reverse=True))),
    min_size=1,
    max_size=3,
)
actions = st.lists(
    st.one_of(
        st.integers(1, 7),  # steps
        st.sets(st.integers(0, 2), max_size=2).map(lambda rows: ("reset", tuple(rows))),
        st.just(("reset", None)),
        st.integers(0, 6).map(lambda steps: ("lines", steps)),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=40)
@given(taps=tap_sets, batch=st.integers(1, 3), capturable=st.booleans(), script=actions)
def test_any_course_of_a_stream_equals_the_cpu_bit_for_bit(build_example, host, taps, batch, capturable, script):
    bundle = build_example(*taps).bundle
    rng = np.random.default_rng(0)
    cpu = open_backend(bundle, batch=batch)
    device = host.open(bundle, batch, capturable=capturable)
    for action in script:
        if isinstance(action, int):
            both_step(device, cpu, rng, action)
        elif action[0] == "reset":
            rows = None if action[1] is None else [row for row in action[1] if row < batch]
            device.reset(rows)
            cpu.reset(rows)
        else:  # lines come from the CPU in another phase, and go back to a CPU in another phase
            other = open_backend(bundle, batch=batch)
            for _ in range(action[1]):
                other.step(draw_inputs(bundle.manifest.contract, rng, batch))
            device.write_lines(other.read_lines())
            cpu = open_backend(bundle, batch=batch)
            cpu.write_lines(device.read_lines())
        same(device.read_lines(), cpu.read_lines())
    both_step(device, cpu, rng, 2 * cpu.contract.slots)


@settings(max_examples=10)
@given(taps=tap_sets, window=st.integers(1, 6), capturable=st.booleans())
def test_window_mode_equals_the_cpu_bit_for_bit(build_example, host, taps, window, capturable):
    bundle = build_example(*taps, window=window).bundle
    rng = np.random.default_rng(1)
    modes = [Window(host.open(bundle, window, capturable=capturable)), Window(open_backend(bundle, batch=window))]
    for t in range(4 * window + 12):
        if t == 2 * window:
            for mode in modes:
                mode.reset()
        inputs = draw_inputs(bundle.manifest.contract, rng, 1)
        found, expected = (mode.step(inputs) for mode in modes)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("taps", [((1,),), ((1,), (2,), (4, 3, 2, 1)), ((5, 2),)])
def test_backend_keeps_the_step_contract(build_example, host, taps):
    bundle = build_example(*taps).bundle
    verify_stateful_step(lambda batch: host.open(bundle, batch), np.random.default_rng(0))


def test_an_interval_is_one_launch_and_one_wait(example, host):
    backend = host.open(example.bundle)
    slots = example.bundle.manifest.contract.slots
    assert backend.device.counts == {"captures": slots}
    rng = np.random.default_rng(0)
    for _ in range(20):
        backend.step(draw_inputs(backend.contract, rng, 1))
    assert backend.device.counts == {"captures": slots, "launches": 20, "events": 20, "waits": 20}


def test_what_cannot_be_captured_is_put_on_the_stream_each_time(example, host):
    backend = host.open(example.bundle, capturable=False)
    backend.step(draw_inputs(backend.contract, np.random.default_rng(0), 1))
    assert backend.device.counts == {"events": 1, "waits": 1}
    assert backend.device.steps == 1


def test_outputs_lie_at_fixed_addresses_and_input_errors_change_nothing(example, host):
    backend = host.open(example.bundle)
    rng = np.random.default_rng(0)
    first = backend.step(draw_inputs(backend.contract, rng, 1))["forecast"]
    before = backend.read_lines()
    assert backend.step(draw_inputs(backend.contract, rng, 1))["forecast"].ctypes.data == first.ctypes.data
    backend.write_lines(before)
    inputs = draw_inputs(backend.contract, rng, 1)
    with pytest.raises(StreamError, match="step inputs"):
        backend.step({"values": inputs["values"]})
    with pytest.raises(StreamError, match="'observed' of shape"):
        backend.step(inputs | {"observed": inputs["observed"][:, :2]})
    with pytest.raises(StreamError, match="same bundle and batch"):
        backend.write_lines({})
    same(backend.read_lines(), before)


# The detector detects: each test makes one mistake, and the host device says which.


def steps(backend, count=12):
    rng = np.random.default_rng(2)
    for _ in range(count):
        backend.step(draw_inputs(backend.contract, rng, backend.batch))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda phase, age, slots: (phase - age + 1) % slots, "writes what it also reads"),
        (lambda phase, age, slots: (phase - max(1, age - 1)) % slots, "stale slot"),
        (lambda phase, age, slots: (phase - min(slots - 1, age + 1)) % slots, "stale slot"),
    ],
)
def test_a_wrong_slot_rule_is_seen(example, host, monkeypatch, rule, message):
    monkeypatch.setattr("runtime.backends.slots.read_slot", rule)
    with pytest.raises(host.AccessError, match=message):
        steps(host.open(example.bundle))


def test_a_slot_too_few_is_seen(build_example, host, monkeypatch):
    bundle = build_example((4, 1)).bundle
    monkeypatch.setattr(StepContract, "slots", property(lambda self: max(state.delay for state in self.states)))
    with pytest.raises(host.AccessError, match="writes what it also reads"):
        host.open(bundle)


def test_state_left_over_from_the_steps_before_the_capture_is_seen(example, host):
    class Forgetful(DeviceBackend):
        def reset(self, rows=None):
            if not hasattr(self, "_zeroed"):
                super().reset(rows)
            self._zeroed = True

    with pytest.raises(host.AccessError, match="before the first interval"):
        steps(host.open(example.bundle, cls=Forgetful))


def test_slots_that_were_never_zeroed_are_seen(example, host):
    class Careless(DeviceBackend):
        def reset(self, rows=None):
            pass

    with pytest.raises(host.AccessError, match="never written"):
        host.open(example.bundle, cls=Careless)


def test_zeroing_only_the_slot_just_written_is_seen_in_window_mode(build_example, host, monkeypatch):
    bundle = build_example((3, 1), window=3).bundle
    device, cpu = Window(host.open(bundle, 3)), Window(open_backend(bundle, batch=3))
    slots = device.backend._slots["layer0.hidden"]

    def zero_one(rows):
        for row in rows:
            address = slots.address((device.backend._phase - 1) % bundle.manifest.contract.slots)
            device.backend.device.zero(address + row * slots._row, slots._pitch, slots._row, 1)

    monkeypatch.setattr(slots, "zero", zero_one)
    rng = np.random.default_rng(0)
    inputs = [draw_inputs(bundle.manifest.contract, rng, 1) for _ in range(12)]
    wrong = [not np.array_equal(device.step(one), cpu.step(one)) for one in inputs]
    assert any(wrong)


def test_an_output_at_the_address_of_a_slot_is_seen(example, host):
    class Aliased(host.Program):
        def bind(self, addresses):
            return super().bind(addresses | {"next_state.layer0.hidden": addresses["state.layer0.hidden"]})

    device = host.Device()
    with pytest.raises(host.AccessError, match="writes what it also reads"):
        DeviceBackend("host", example.bundle.manifest.contract, 1, device, Aliased(device, example.bundle, 1))


def test_two_outputs_at_one_address_are_seen(example, host):
    class Doubled(host.Program):
        def bind(self, addresses):
            return super().bind(addresses | {"next_state.layer0.hidden": addresses["next_state.layer1.hidden"]})

    device = host.Device()
    with pytest.raises(host.AccessError, match="writes what it also reads or writes"):
        DeviceBackend("host", example.bundle.manifest.contract, 1, device, Doubled(device, example.bundle, 1))


def test_an_address_outside_the_captured_set_is_seen(example, host):
    backend = host.open(example.bundle)
    run = backend.program.run
    other = backend._slots["layer2.hidden"].address(2)  # the first interval reads slots 1, 3, 5 and writes slot 0
    backend.program.run = lambda addresses: run(addresses | {"state.layer0.hidden": other})
    with pytest.raises(host.AccessError, match="outside of what was put on the stream"):
        steps(backend)


def test_out_of_bounds_and_freed_addresses_are_seen(example, host):
    class Overrun(host.Program):
        def bind(self, addresses):
            return super().bind(addresses | {"values": addresses["values"] + 10**5})

    device = host.Device()
    with pytest.raises(host.AccessError, match="freed or out of bounds"):
        DeviceBackend("host", example.bundle.manifest.contract, 1, device, Overrun(device, example.bundle, 1))
    backend = host.open(example.bundle)
    backend.device.close()
    with pytest.raises(host.AccessError, match="freed or out of bounds"):
        steps(backend)


def test_a_missing_wait_is_seen(example, host):
    backend = host.open(example.bundle)
    rng = np.random.default_rng(0)
    inputs = draw_inputs(backend.contract, rng, 1)
    wait, backend.device.wait = backend.device.wait, lambda: None
    assert np.isnan(backend.step(inputs)["forecast"]).all()
    backend.step(draw_inputs(backend.contract, rng, 1))
    with pytest.raises(host.AccessError, match="in flight"):
        wait()


def test_an_output_buffer_written_in_flight_is_seen(example, host):
    backend = host.open(example.bundle)
    wait = backend.device.wait

    def late():
        backend._outputs.arrays["forecast"][...] = 0
        wait()

    backend.device.wait = late
    with pytest.raises(host.AccessError, match="a copy to it was in flight"):
        steps(backend)


def test_a_missing_copy_of_the_inputs_is_seen(example, host):
    backend = host.open(example.bundle, capturable=False)
    backend.device.copy_in = lambda address, array: None
    with pytest.raises(host.AccessError, match=r"never written|not copied in"):
        steps(backend)


def test_the_default_stream_during_a_capture_is_seen(example, host):
    device = host.Device()
    program = host.Program(device, example.bundle, 1)
    program.stream = 0
    with pytest.raises(host.AccessError, match="on stream 0"):
        DeviceBackend("host", example.bundle.manifest.contract, 1, device, program)


def test_a_first_step_or_an_allocation_during_a_capture_is_seen(example, host):
    device = host.Device()
    program = host.Program(device, example.bundle, 1)
    addresses = {name: device.allocate(program.span(name, 0).size) for name in program.shapes}
    step = program.bind(addresses)
    with pytest.raises(host.AccessError, match="the first step during a capture"):
        device.capture(step)
    for forbidden in (lambda: device.allocate(4), lambda: device.host_buffer(4), device.synchronize, device.wait):
        with pytest.raises(host.AccessError, match="during a capture"):
            device.capture(forbidden)
    with pytest.raises(host.AccessError, match="pageable"):
        device.capture(lambda: device.copy_in(addresses["values"], np.zeros(4, np.uint8)))


def test_an_allocation_during_a_step_is_seen(example, host):
    backend = host.open(example.bundle, capturable=False)
    run = backend.program.run

    def allocating(addresses):
        backend.device.allocate(4)
        run(addresses)

    backend.program.run = allocating
    with pytest.raises(host.AccessError, match="allocation after the first interval"):
        steps(backend)


def test_every_tensor_is_aligned(example, host):
    backend = host.open(example.bundle, 3)
    addresses = [*backend._inputs.addresses.values(), *backend._outputs.addresses.values()]
    addresses += [slots.address(slot) for slots in backend._slots.values() for slot in range(backend.contract.slots)]
    assert not any(address % module.aligned(1) for address in addresses)
