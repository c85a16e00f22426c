"""What holds for every test."""

import signal
import threading

from hypothesis import settings

# how long an example takes says more of the machine than of the code
settings.register_profile("stemloom", deadline=None)
settings.load_profile("stemloom")


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start.

    A shell starts background jobs with SIGINT ignored, and every child inherits that: a program under test would
    never see the signal that its test sends.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
