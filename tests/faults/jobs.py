"""A Celery application whose tasks work on the rows; one of them never ends."""

from __future__ import annotations

import os
import signal
import threading

from celery import Celery

from .hosted import work

_folder = os.environ["CACHEOPS_TEST_JOBS"]
app = Celery("jobs", broker="filesystem://", backend=f"file://{_folder}/results")
app.conf.broker_transport_options = dict.fromkeys(
    ("data_folder_in", "data_folder_out"), f"{_folder}/queue"
) | {"control_folder": f"{_folder}/control"}


@app.task(name="work")
def run(seed: str) -> list[int]:
    """The process and the number of hits."""
    return [os.getpid(), work.work(seed, 5)]


@app.task(name="killed")
def be_killed() -> None:
    """Work until death, which comes in the middle of something."""
    threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGKILL]).start()
    while True:
        work.work("killed", 5, writes=0.5)
