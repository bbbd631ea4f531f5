"""Locks: held by one, given up by the dead, never taken from the living."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict

import pytest

from segmenter_plugin.data import output_lock
from segmenter_plugin.data.output_lock import LOST_AFTER_S, Owner, is_held, locked, read_owner, release_dead
from segmenter_plugin.errors import ConcurrentRunError, UserError

HOLD = """
import sys, time
from pathlib import Path
from segmenter_plugin.data.output_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "scores~cutoff=1.lock"


@pytest.fixture
def other(lock):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def _write(lock, seconds_ago=0.0, **changes):
    lock.write_text(json.dumps(asdict(Owner.this_process()) | changes))
    then = lock.stat().st_mtime - seconds_ago
    os.utime(lock, (then, then))


def test_it_is_there_while_held_and_gone_afterwards(lock):
    with locked(lock) as identity:
        assert read_owner(lock).id == identity
        assert read_owner(lock).pid == os.getpid()
        assert is_held(lock)
    assert not list(lock.parent.iterdir())


def test_an_error_gives_it_back(lock):
    with pytest.raises(ZeroDivisionError), locked(lock):
        _ = 1 / 0
    assert not lock.exists()


def test_a_living_process_keeps_it(lock, other):
    with pytest.raises(
        ConcurrentRunError, match=f"'scores/cutoff=1' is being written by process {other.pid}"
    ) as caught:
        locked(lock).__enter__()
    assert str(lock) in caught.value.hint
    assert not isinstance(caught.value, UserError)
    assert read_owner(lock).pid == other.pid


@pytest.mark.parametrize("is_reaped", [True, False])
def test_a_killed_process_gives_it_up(lock, other, is_reaped):
    other.send_signal(signal.SIGKILL)
    if is_reaped:
        other.wait()
    else:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    with locked(lock):
        assert read_owner(lock).pid == os.getpid()
    assert not list(lock.parent.iterdir())


def test_a_number_that_another_process_has_got_since_is_not_its_owner(lock):
    _write(lock, started="1")
    assert not is_held(lock)
    with locked(lock):
        pass


@pytest.mark.parametrize(("age", "held"), [(LOST_AFTER_S - 60, True), (LOST_AFTER_S + 60, False)])
def test_the_lock_of_another_machine_counts_for_a_day(lock, age, held):
    _write(lock, age, host="elsewhere", pid=999_999_999)
    assert is_held(lock) == held
    if held:
        with pytest.raises(ConcurrentRunError, match="on elsewhere, for 863"):
            locked(lock).__enter__()
    else:
        with locked(lock):
            pass


@pytest.mark.parametrize(("text", "age", "held"), [("", 1, True), ("", 99, False), ("{}", 99, False), ("[1", 1, True)])
def test_a_lock_that_was_never_written_is_given_up(lock, text, age, held):
    lock.write_text(text)
    then = lock.stat().st_mtime - age
    os.utime(lock, (then, then))
    assert is_held(lock) == held
    assert release_dead(lock) != held


def test_where_the_start_of_a_process_is_not_known_its_number_tells(lock, other):
    _write(lock, pid=other.pid, started=None)
    assert is_held(lock)
    other.kill()
    other.wait()
    assert not is_held(lock)


def test_of_many_that_find_a_dead_owner_one_at_a_time_gets_it(lock):
    inside, most, won, lost = [0], [0], [0], [0]
    counts, start = threading.Lock(), threading.Barrier(8)

    def enter():
        start.wait()
        try:
            with locked(lock):
                with counts:
                    inside[0] += 1
                    won[0] += 1
                    most[0] = max(most[0], inside[0])
                with counts:
                    inside[0] -= 1
        except ConcurrentRunError:
            with counts:
                lost[0] += 1

    for _ in range(40):
        _write(lock, started="1")
        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] == 1
    assert won[0] >= 40
    assert won[0] + lost[0] == 320
    assert not list(lock.parent.iterdir())


def test_who_comes_late_to_a_dead_owner_leaves_the_new_one_alone(lock, monkeypatch):
    _write(lock, started="1")
    dead = read_owner(lock)
    living = Owner.this_process()
    answers = [dead, living]
    lock.write_text(json.dumps(asdict(living)))
    monkeypatch.setattr(output_lock, "read_owner", lambda _: answers.pop(0))
    assert not release_dead(lock)
    monkeypatch.undo()
    assert read_owner(lock) == living


def test_a_claim_that_its_process_did_not_live_to_use_ends(lock):
    _write(lock, started="1")
    claim = lock.with_name(f"{lock.name}.{read_owner(lock).id}")
    claim.touch()
    assert not release_dead(lock)
    os.utime(claim, (1, 1))
    assert release_dead(lock)
    assert not list(lock.parent.iterdir())


def test_a_lock_that_was_taken_away_is_not_removed_by_who_had_it(lock):
    with locked(lock):
        _write(lock, host="elsewhere")
    assert read_owner(lock).host == "elsewhere"
