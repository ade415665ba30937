"""The background thread: does its jobs, outlives none of them, survives a failing one and a fork."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from nbops.tracking.capture.background import drain, is_here, submit


def test_jobs_are_done_in_order_on_a_thread_that_goes_away() -> None:
    done: list[tuple[int, bool]] = []
    for n in range(5):
        submit(lambda n=n: done.append((n, is_here())))  # type: ignore[misc]
    assert drain()
    assert done == [(n, True) for n in range(5)]
    assert not is_here()
    assert [t for t in threading.enumerate() if t.name == "nbops-capture"] == []


def test_a_failing_job_is_told_once_and_the_next_one_is_done(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def fail() -> None:
        raise ZeroDivisionError("of this test")

    with caplog.at_level(logging.WARNING, "nbops"):
        for _ in range(3):
            submit(fail)
        submit(lambda: done.append(1))
        assert drain()
    assert done == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "nbops could not record part of a run's context: of this test"
    ]


def test_draining_does_not_wait_for_ever() -> None:
    go = threading.Event()
    submit(lambda: go.wait(30) and None)
    assert not drain(0.2)
    go.set()
    assert drain()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_jobs_alone_and_does_its_own() -> None:
    go = threading.Event()
    submit(lambda: go.wait(30) and None)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        submit(lambda: done.append(1))
        os._exit(0 if drain(5) and done == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    assert drain()
