"""A real Jupyter kernel: runs cells, and returns what a notebook would show."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from tests.support.process import environment

SECONDS = 300


@dataclass
class Shown:
    """The outputs of one cell."""

    text: str = ""
    """What was printed, on both streams."""
    data: dict[str, str] = field(default_factory=dict)
    """The value of the last line, by MIME type."""
    error: str = ""
    """Name of the exception."""
    traceback: str = ""


class Kernel:
    def __init__(self, manager: Any, client: Any) -> None:
        self._manager, self._client = manager, client

    def run(self, code: str, interrupt_when: Callable[[str], bool] | None = None) -> Shown:
        """Runs a cell to its end, and interrupts it once its printed text satisfies the condition."""
        shown, waits = Shown(), interrupt_when

        def output(message: dict[str, Any]) -> None:
            nonlocal waits
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    shown.text += content["text"]
                case "execute_result":
                    shown.data = content["data"]
                case "error":
                    shown.error, shown.traceback = content["ename"], "\n".join(content["traceback"])
            if waits is not None and waits(shown.text):
                waits = None
                self._manager.interrupt_kernel()

        self._client.execute_interactive(code, timeout=SECONDS, output_hook=output)
        return shown


@contextmanager
def kernel(cwd: Path) -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(cwd), env=environment())
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
