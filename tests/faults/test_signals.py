"""Signals to a command before training: it ends with one line and the status for the signal."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxgen import cli, signals
from jaxgen.errors import Stopped

SEND = "import os, signal, time; os.kill(os.getpid(), signal.{name}); time.sleep(5)"
STATUS = {"SIGINT": 130, "SIGTERM": 75, "SIGHUP": 129, "SIGUSR1": 75, "SIGUSR2": 75, "SIGXCPU": 75}


def child(code: str, tmp_path, **how) -> tuple[int, str]:
    """Returns the exit status and stderr of a Python process."""
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from jaxgen import signals\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, **how)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", STATUS)
def test_while_a_module_is_imported(name, tmp_path):
    (tmp_path / "slow.py").write_text(SEND.format(name=name))
    code = "with signals.handled(signals.end):\n    import slow"
    assert child(code, tmp_path) == (STATUS[name], "jaxgen: stopped\n")


@pytest.mark.parametrize("name", STATUS)
def test_before_a_run_is_begun(name, tmp_path, monkeypatch, capsys):
    before = {each: signal.getsignal(each) for each in signals.HEEDED}

    def stopped(*_, **__):
        os.kill(os.getpid(), getattr(signal, name))
        raise AssertionError("never here")

    monkeypatch.setattr("jaxgen.training.loop.make_plan", stopped)
    assert cli.main(["train", "vae", "--out", str(tmp_path / "run")]) == STATUS[name]
    assert capsys.readouterr().err == "jaxgen: stopped\n"
    assert not list(tmp_path.iterdir())
    after = {each: signal.getsignal(each) for each in signals.HEEDED}
    assert after == before | ({signal.SIGXCPU: signal.SIG_IGN} if name == "SIGXCPU" else {})
    signal.signal(signal.SIGXCPU, before[signal.SIGXCPU])


COLLECTED = """
import gc
def _xla_gc_callback(phase, info):
    if phase == "start":
        gc.callbacks.clear()
        send()
gc.callbacks.append(_xla_gc_callback)
drop = gc.collect
"""
DELETED = """
class Held:
    def __del__(self):
        send()
drop = Held
"""


@pytest.mark.parametrize("place", [COLLECTED, DELETED], ids=["collected", "deleted"])
def test_one_that_comes_where_python_drops_what_is_raised_comes_again(place, tmp_path):
    code = f"""
import os, signal, time
def send():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # the handler runs between two steps of it
        pass
{place}
with signals.handled(signals.end):
    try:
        drop()
        time.sleep(20)
    except KeyboardInterrupt as stopped:
        sys.exit(stopped.status)
"""
    assert child(code, tmp_path) == (130, "")


def test_one_that_waits_too_long_for_a_place_to_be_raised_ends_the_process(tmp_path):
    code = """
import os, signal, time
class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
with signals.handled(signals.end):
    Held()
"""
    begun = time.monotonic()
    assert child(code, tmp_path) == (75, "jaxgen: stopped\n")
    assert time.monotonic() - begun > signals.PATIENCE


def test_one_that_is_to_be_ignored_stays_ignored(tmp_path):
    """SIGINT is ignored in background jobs of a shell script."""
    code = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
with signals.handled(signals.end), signals.heeded(print) as asked:
    os.kill(os.getpid(), signal.SIGINT)
    assert asked() is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked() == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
    assert child(code, tmp_path) == (0, "")


WAITING = """
import hashlib, os, signal, threading, time
def send():
    for number in ({first}, {second}):
        time.sleep({apart})
        os.kill(os.getpid(), number)
with signals.watched(), signals.handled(signals.end), signals.heeded(lambda _: None) as asked:
    threading.Thread(target=send).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})  # the main thread is in C, where no handler runs
    sys.exit(int(asked()))
"""


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGTERM", 75), ("SIGHUP", "SIGINT", 130), ("SIGINT", "SIGTERM", 75)],
)
def test_a_second_ends_the_process_while_it_waits_for_c(first, second, status, tmp_path):
    both = {"first": signal.Signals[first].value, "second": signal.Signals[second].value}
    begun = time.monotonic()
    code = WAITING.format(**both, apart=signals.TOGETHER + 0.2, rounds=10**9)
    assert child(code, tmp_path) == (status, "\njaxgen: ended at the second signal\n")
    assert time.monotonic() - begun < 30  # the rounds take minutes


LIMITED = """
import contextlib, hashlib, resource, signal, time
resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
with {context}, signals.handled(signals.end), signals.heeded(lambda _: None) as asked:
    while time.process_time() < 3.2:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**5)
sys.exit(int(asked()))
"""


@pytest.mark.parametrize("context", ["signals.watched()", "contextlib.nullcontext()"])
def test_a_limit_of_processor_time_that_is_passed_again_every_second(context, tmp_path):
    assert child(LIMITED.format(context=context), tmp_path) == (signal.SIGXCPU, "")


def test_two_at_once_are_one(tmp_path):
    """A terminal and `timeout` may both pass on a Ctrl-C."""
    code = WAITING.format(first=2, second=2, apart=0.01, rounds=10**6)
    assert child(code, tmp_path) == (signal.SIGINT, "")


def test_one_that_is_sent_anew_is_no_second_one(tmp_path):
    code = """
import os, signal, time
class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        begun = time.monotonic()
        while time.monotonic() - begun < 2 * signals.TOGETHER:
            pass
with signals.watched(), signals.handled(signals.end):
    try:
        Held()
        time.sleep(20)
    except KeyboardInterrupt as stopped:
        sys.exit(stopped.status)
"""
    assert child(code, tmp_path) == (130, "")


def test_its_words_and_status():
    with pytest.raises(Stopped) as stopped:
        signals.end(signal.SIGTERM, sys._getframe())
    assert (str(stopped.value), stopped.value.status) == ("", 75)
