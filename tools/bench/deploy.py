"""Benchmark of a deploy on virtual boards: ours against stock mpremote and belay in one run, and 64 boards at once.

Each tool installs the node's files on a fresh board, then installs them again after one source file has changed, three
times in turn: the median counts.
Once the board's USB is paced as 115200 baud are, once it goes as fast as it can. Time runs from the start of the
command until every file is there; ours has read every byte back and verified its hash by then, and has left out of it
the restart and the trial of the new version, which are told apart. mpremote compares hashes before it copies, belay
too; neither reads back. The 64 boards are unpaced; memory is what the deploying processes have to themselves (PSS).
Prints a table and writes build/bench/deploy.json.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from _data import KEYS, ROOT, about, parser, results_path, write_results
from sentill_host.board.link import Link
from sentill_host.virtual import Board, VirtualBoards

SENTILL = [sys.executable, "-c", "from sentill_host.cli import main; main()"]
MPREMOTE = [sys.executable, "-m", "mpremote"]
# What `belay sync` does, without its convenience imports (PWM, SPI and Timer are not on the virtual board).
BELAY = [sys.executable, "-c", "import sys, belay; belay.Device(sys.argv[1], startup='').sync(sys.argv[2], dst='/')"]
CHANGED = "sentill/risk/assess.py"
CHANGES = 3
BOARDS = 64


class Stage:
    """What the tools install: sources as a peer would copy them, the same compiled, and a checkout of ours."""

    def __init__(self, folder: Path, mpy: int):
        self.sources, self.compiled, self.checkout = folder / "sources", folder / "compiled", folder / "checkout"
        for name in ("device", "host", "boards"):
            shutil.copytree(ROOT / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._mpy = mpy
        self.refresh()

    def change(self) -> None:
        """One more function in one source file."""
        path = self.checkout / "device" / CHANGED
        path.write_text(path.read_text() + "\n\ndef answer():\n    return 42\n")
        self.refresh()

    def refresh(self) -> None:
        """Lay out the checkout for the peers."""
        code = (
            "import sys\nfrom pathlib import Path\nfrom sentill_host.board import catalogue\n"
            "from sentill_host.bundle import agent, build as bundle\n"
            f"made = bundle.build(catalogue.load('SIM'), bundle.Firmware((1, 28, 0), {self._mpy}))\n"
            "for entry in made.entries:\n"
            "    if entry.path == agent.KEPT:\n"
            "        continue  # ours alone has use for it\n"
            "    path = Path(sys.argv[1]) / entry.path\n"
            "    path.parent.mkdir(parents=True, exist_ok=True)\n"
            "    if not path.exists() or path.read_bytes() != entry.data:\n"
            "        path.write_bytes(entry.data)\n"
        )
        environment = {**self.environment, "XDG_CACHE_HOME": str(self.checkout / "cache of the peers")}
        subprocess.run([sys.executable, "-c", code, str(self.compiled)], env=environment, check=True, timeout=60)
        for entry in self.compiled.rglob("*"):
            if entry.is_dir():
                continue
            name = entry.relative_to(self.compiled)
            source = self.checkout / "device" / name.with_suffix(".py")
            if name.name == "board.mpy":
                source = self.checkout / "boards" / "SIM" / "board.py"
            target = self.sources / (name if entry.suffix != ".mpy" else name.with_suffix(".py"))
            target.parent.mkdir(parents=True, exist_ok=True)
            content = (source if entry.suffix == ".mpy" else entry).read_bytes()
            if not target.exists() or target.read_bytes() != content:
                target.write_bytes(content)

    @property
    def environment(self) -> dict[str, str]:
        """Runs our command from the checkout, with nothing compiled before."""
        path = f"{self.checkout / 'host'}{os.pathsep}{self.checkout / 'device'}"
        return {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(self.checkout / "cache")}


def size(folder: Path) -> float:
    """Kilobytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024


def run(command: list[str], **options: object) -> tuple[float, str]:
    """Seconds and output of a command, which must succeed."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(command[-6:])} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - start, done.stdout


def by_mpremote(board: Board, folder: Path) -> float:
    """Stock `mpremote cp -r` of a folder's content."""
    return run([*MPREMOTE, "connect", board.usb, "cp", "-r", *[str(p) for p in sorted(folder.iterdir())], ":"])[0]


def by_belay(board: Board, folder: Path) -> float:
    """belay's sync of a folder, without a compiler: it copies the same sources as mpremote."""
    return run([*BELAY, board.usb, str(folder)])[0]


def by_sentill(board: Board, stage: Stage) -> tuple[float, float]:
    """(until verified, restart and trial) of our command."""
    seconds, output = run([*SENTILL, "deploy", board.usb, "--json"], env=stage.environment)
    told = json.loads(output)
    if told["unchanged"]:
        raise SystemExit("nothing was deployed")
    after = told["seconds"] - told["verified_s"]
    return seconds - after, after


def compare(out: Console, paced: bool, results: dict[str, float]) -> None:
    """All tools on a wire of one speed."""
    suffix = "paced" if paced else "unpaced"
    tools: dict[str, tuple[Callable[[Board, Stage], float], str]] = {
        "mpremote": (lambda board, stage: by_mpremote(board, stage.sources), "mpremote cp -r, sources"),
        "mpremote_mpy": (lambda board, stage: by_mpremote(board, stage.compiled), "mpremote cp -r, .mpy"),
        "belay": (lambda board, stage: by_belay(board, stage.sources), "belay sync, sources"),
    }
    table = Table("tool", "first install", "one file changed", "restart, trial", title=f"115200 baud: {suffix}")
    with VirtualBoards(len(tools) + 1, paced=paced) as started, tempfile.TemporaryDirectory() as folder:
        with Link(started[0].usb) as link:
            link.enter_repl()
            mpy = link.exec_json("import sys, json\nprint(json.dumps(sys.implementation._mpy))")
            link.leave_repl()
        stage = Stage(Path(folder), mpy)
        bytes_kb = f"{size(stage.sources):.0f} KB of sources, {size(stage.compiled):.0f} KB compiled"
        first = {name: tool(board, stage) for (name, (tool, _)), board in zip(tools.items(), started, strict=False)}
        ours, boot = by_sentill(started[-1], stage)
        rounds = []
        for _ in range(CHANGES):
            stage.change()
            rounds.append([tool(board, stage) for (tool, _), board in zip(tools.values(), started, strict=False)])
            rounds[-1] += by_sentill(started[-1], stage)
        *others, ours_changed, trial = map(median, zip(*rounds, strict=True))
        changed = dict(zip(tools, others, strict=True))
    for name, (_, words) in tools.items():
        results[f"first_{name}_{suffix}_s"], results[f"change_{name}_{suffix}_s"] = first[name], changed[name]
        results[f"first_vs_{name}_{suffix}"] = first[name] / ours
        results[f"change_vs_{name}_{suffix}"] = changed[name] / ours_changed
        table.add_row(
            words,
            f"{first[name]:.1f} s = {first[name] / ours:.1f} x ours",
            f"{changed[name]:.1f} s = {changed[name] / ours_changed:.1f} x ours",
            "not part of it",
        )
    results |= {f"first_{suffix}_s": ours, f"change_{suffix}_s": ours_changed}
    results |= {f"first_restart_{suffix}_s": boot, f"change_trial_{suffix}_s": trial}
    table.add_row("sentill deploy", f"{ours:.1f} s", f"{ours_changed:.1f} s", f"{boot:.1f} s, {trial:.1f} s")
    out.print(table)
    out.print(bytes_kb)


class Memory(threading.Thread):
    """Highest sum of the proportional set sizes of a process and its children, looked at five times a second."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak_mb = 0.0
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            pids = [self._pid, *_children(self._pid)]
            self.peak_mb = max(self.peak_mb, sum(_pss_kb(pid) for pid in pids) / 1024)

    def end(self) -> float:
        """The peak in MB."""
        self._ended.set()
        self.join()
        return self.peak_mb


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def many(out: Console, count: int, results: dict[str, float]) -> None:
    """`count` boards at once, and once more."""
    with VirtualBoards(count) as started:
        ports = [board.usb for board in started]
        told = []
        for _ in range(2):
            start = time.monotonic()
            child = subprocess.Popen([*SENTILL, "deploy", *ports, "--json"], stdout=subprocess.PIPE, text=True)
            memory = Memory(child.pid)
            output, _ = child.communicate(timeout=900)
            seconds, peak_mb = time.monotonic() - start, memory.end()
            answers = [json.loads(line) for line in output.splitlines()]
            failed = [answer["error"] for answer in answers if answer["error"]]
            if failed or len(answers) != count:
                raise SystemExit(f"{len(failed)} of {count} boards failed: {failed[:3]}")
            told.append((seconds, peak_mb, sum(answer["unchanged"] for answer in answers)))
    (seconds, peak_mb, _), (again_s, again_mb, unchanged) = told
    results |= {f"boards{count}_s": seconds, f"boards{count}_peak_mb": peak_mb}
    results |= {f"boards{count}_again_s": again_s, f"boards{count}_again_peak_mb": again_mb}
    results |= {f"boards{count}_unchanged": unchanged}
    out.print(
        f"{count} boards at once: {seconds:.1f} s ({seconds / count:.2f} s a board), peak {peak_mb:.0f} MB; "
        f"a second run {again_s:.1f} s, peak {again_mb:.0f} MB, {unchanged} unchanged"
    )


def short(out: Console) -> None:
    """Every tool once: the others with a few generated files, ours with the node on two boards at once."""
    results: dict[str, float] = {}
    with VirtualBoards(2) as started, tempfile.TemporaryDirectory() as folder:
        for i in range(3):
            (Path(folder) / f"generated{i}.py").write_text(f"VALUE = {i}\n")
        for board, tool in zip(started, (by_mpremote, by_belay), strict=True):
            results[f"{tool.__name__}_s"] = tool(board, Path(folder))
    many(out, 2, results)
    absent = dict.fromkeys(KEYS["deploy"], "takes minutes")
    out.print(f"kept in {write_results('deploy', results, True, absent)}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--only", choices=["paced", "unpaced", "boards"], help="a part of it; keeps the other results"
    )
    options = arguments.parse_args()
    only = options.only
    out = Console()
    out.print(f"host {about()}, {os.cpu_count()} processors; virtual boards of MicroPython's Unix port")
    if options.short:
        short(out)
        return
    path = results_path("deploy")
    results: dict[str, float] = json.loads(path.read_text()) if only and path.exists() else {}
    for paced in (True, False):
        if only in (None, "paced" if paced else "unpaced"):
            compare(out, paced, results)
    if only in (None, "boards"):
        for count in (1, 8, BOARDS):
            many(out, count, results)
    left = dict.fromkeys(KEYS["deploy"], f"--only {only} leaves it out") if only else {}
    out.print(f"kept in {write_results('deploy', results, absent=left)}")


if __name__ == "__main__":
    main()
