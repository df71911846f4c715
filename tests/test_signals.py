import os
import signal

import pytest

from began_jax import signals


@pytest.mark.parametrize(("number", "acts_again"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_the_first_signal_is_collected_and_a_second_acts_if_it_is_ctrl_c(number, acts_again):
    acted = []
    before = signal.signal(number, lambda *args: acted.append(args[0]))
    try:
        with signals.collect() as stop:
            assert stop() is None
            os.kill(os.getpid(), number)
            assert (stop(), acted) == (number, [])
            os.kill(os.getpid(), number)
            assert (stop(), acted) == (number, [number] * acts_again)
        os.kill(os.getpid(), number)
        assert acted == [number] * (1 + acts_again)
    finally:
        signal.signal(number, before)


def test_stopped_says_where_and_exits_as_a_shell_would_report():
    stopped = signals.Stopped(signal.SIGTERM, 12)
    assert str(stopped).startswith("SIGTERM: saved at step 12")
    assert stopped.exit_status == 143
