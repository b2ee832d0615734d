"""Files of JSON lines: one line a value, whoever writes at the same time."""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zpipe.runfolder.json_lines import LineWriter

THREADS, LINES = 4, 1500


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_that_share_a_writer_leave_no_empty_line(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    writer = LineWriter(file)

    def write(thread: int) -> None:
        for line in range(LINES):
            writer.write(json.dumps([thread, line]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    written = [tuple(json.loads(line)) for line in file.read_text().splitlines()]
    assert sorted(written) == [(thread, line) for thread in range(THREADS) for line in range(LINES)]
