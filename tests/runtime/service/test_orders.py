"""Orders come by signals from the first moment on, and none of them is lost."""

from __future__ import annotations

import signal

import pytest

from runtime.service.orders import RELOAD, STOP, Orders, Stopped

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_is_an_order_and_the_old_handlers_come_back(number):
    orders, before = Orders(), signal.getsignal(number)
    with orders.from_signals():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert [orders.next(0) for _ in range(4)] == [RELOAD, STOP, STOP, ""]
    assert orders.stopping
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_breaks_off_a_start_once_and_a_reload_does_not(number):
    orders, closed = Orders(), False
    with orders.from_signals():
        with pytest.raises(Stopped), orders.interrupting():  # noqa: PT012
            try:
                signal.raise_signal(signal.SIGHUP)
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)
                closed = True
        with pytest.raises(Stopped), orders.interrupting():
            pytest.fail("it has been told to stop before")
    assert closed


def test_what_a_library_makes_of_a_stop_in_a_start_is_that_stop():
    orders = Orders()
    with orders.from_signals(), pytest.raises(Stopped), orders.interrupting():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as stopped:
            raise ImportError("initialization failed") from stopped
    with pytest.raises(ImportError), Orders().interrupting():
        raise ImportError("not installed")


def test_to_the_end_the_signals_are_ignored():
    with Orders().from_signals(to_the_end=True):
        pass
    for number in (*STOPS, signal.SIGHUP):
        signal.raise_signal(number)
