"""The first step of the `sentill` command: loading the rest takes a moment, in which Ctrl-C ends it without a word."""

import signal


def main() -> None:
    """Entry point: load the command and run it."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # not where Ctrl-C is ignored, as in a job in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sentill_host.cli import main as command

    signal.signal(signal.SIGINT, usual)
    command()
