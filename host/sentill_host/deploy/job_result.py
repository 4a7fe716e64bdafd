"""What became of a job on one board, its failure included: the base of what deploy and flash report."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sentill_host.errors import SentillHostError


@dataclass
class JobResult:
    """Of a job on the board at `port`. `before` is the version that was there, `version` the one wanted.

    `error` is empty on success; `hint` says what to do about it, `exit_code` is that of its error class.
    """

    port: str
    board: str = ""
    uid: str = ""
    before: str = ""
    version: str = ""
    seconds: float = 0.0
    error: str = ""
    hint: str = ""
    exit_code: int = 0

    def fail(self, error: SentillHostError) -> None:
        """Take down what the job failed with, with the port in front."""
        self.error, self.hint, self.exit_code = str(error), error.hint, error.exit_code
        if self.port and not self.error.startswith(self.port):
            self.error = f"{self.port}: {self.error}"

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Around the job: takes down how long it takes, and what it fails with instead of raising that."""
        start = time.monotonic()
        try:
            yield
        except SentillHostError as error:
            self.fail(error)
        self.seconds = round(time.monotonic() - start, 3)
