"""Power cuts at random instants, half of them in the middle of an erase or of a page: the board comes back by itself.

While something is done on a chip, the flash is copied as a cut at that instant would leave it (flash.remains). Each
copy is then powered: its node must say who it is without help, judge a request, and its journal must be proven.
"""

import json
import random
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentill.wire import protocol
from tests.chip.bridge import Bridge
from tests.chip.chip import Chip, Stuck
from tests.chip.deploying import PASSWORD, deployed, new_keys, other_version, powered, prove
from tests.chip.people import People
from tests.chip.run import Bench, Numbers
from tests.chip.terminal import Regime, Terminal, requests

_BACK_S = 60.0  # of the chip's time: a trial may take three starts
_ANSWER_S = 5.0
_LOOK_NS = 5e6
_DONE = "done.json"
# Of all cuts, those in each step.
_SHARES = {"cuts_deploy": 0.3, "cuts_blank": 0.1, "cuts_provision": 0.2, "cuts_commit": 0.2, "cuts_recovery": 0.2}
_TELL = 10
_DEPLOY_AGAIN = 4  # every so many-th board of those cut in a deploy is deployed to again


@dataclass
class Cut:
    """A cut: when, in what operation ("" between two), and what was known then: the records that were kept; the key
    file's text."""

    seconds: float
    during: str
    kept: int = 0
    keys: str = ""

    def __str__(self) -> str:
        return (
            f"at {self.seconds:.3f} s, {f'in the middle of an {self.during}' if self.during else 'between operations'}"
        )


class Cutter:
    """Keeps `count` copies of what cuts would have left of a chip's flash, spread evenly over its operations and time.

    Half of them come from within operations. `known()` is asked at each for the fields of Cut.
    """

    def __init__(self, chip: Chip, count: int, rng: random.Random, known: Callable[[], dict[str, Any]] = dict):
        self._chip = chip
        self._rng = rng
        self._known = known
        self._room = {True: (count + 1) // 2, False: count // 2}  # within an operation, or not
        self._seen = {True: 0, False: 0}
        self._kept: dict[bool, list[tuple[Cut, bytes]]] = {True: [], False: []}
        self._within = chip.alarm(lambda: self._consider(True))
        self._between = chip.alarm(self._look)
        self._between.schedule(_LOOK_NS)
        chip.on_operation = lambda op: self._within.schedule((op.end_ns - op.start_ns) * rng.random())

    def _look(self) -> None:
        if not self._chip.flash.busy():
            self._consider(False)
        self._between.schedule(_LOOK_NS * 2 * self._rng.random())

    def _consider(self, within: bool) -> None:
        # Each instant has the same chance to be among those kept in the end.
        self._seen[within] += 1
        kept, room = self._kept[within], self._room[within]
        at = len(kept) if len(kept) < room else self._rng.randrange(self._seen[within])
        if at >= room:
            return
        flash, going = self._chip.flash.remains(self._rng)
        during = "" if going is None else "erase" if going.erase else "program"
        geometry = self._chip.geometry
        made = Cut(self._chip.ns / 1e9, during, **self._known()), bytes(flash[geometry.start : geometry.end])
        if at == len(kept):
            kept.append(made)
        else:
            kept[at] = made

    def end(self) -> list[tuple[Cut, bytes]]:
        """The copies; the chip is let alone from now on."""
        self._within.cancel()
        self._between.cancel()
        self._chip.on_operation = lambda operation: None
        return self._kept[True] + self._kept[False]


def _count(bench: Bench) -> int:
    return max(round(bench.options.cuts * _SHARES[bench.name]), 1)


def _kept_cuts(bench: Bench, make: Callable[[], list[tuple[Cut, bytes]]]) -> list[tuple[Cut, Path]]:
    """What `make` makes, on disk: an interrupted step goes on with the same."""
    listing = bench.own / f"cuts-{_count(bench)}.json"
    paths = [bench.own / f"{i}.img" for i in range(_count(bench))]
    if not listing.exists():
        (bench.own / _DONE).unlink(missing_ok=True)
        made = make()
        for (_, image), path in zip(made, paths, strict=False):
            path.write_bytes(image)
        listing.write_text(json.dumps([asdict(cut) for cut, _ in made]))
    return [(Cut(**fields), path) for fields, path in zip(json.loads(listing.read_text()), paths, strict=False)]


def _revive_all(
    bench: Bench, cuts: list[tuple[Cut, Path]], check: Callable[[Bench, Cut, bytes, int], float]
) -> Numbers:
    """`check` each; how many there were, how many failed, how long the slowest took to come back."""
    done_file = bench.own / _DONE
    done: dict[str, Any] = json.loads(done_file.read_text()) if done_file.exists() else {}
    for number, (cut, path) in enumerate(cuts):
        if str(number) in done:
            continue
        try:
            done[str(number)] = check(bench, cut, path.read_bytes(), number)
        except (RuntimeError, Stuck):
            done[str(number)] = f"{cut}\n{traceback.format_exc()}"
            bench.say(f"cut {number} ({cut}) FAILED, see {bench.own / 'failures.txt'}")
        done_file.write_text(json.dumps(done))
        if len(done) % _TELL == 0:
            bench.say(f"{len(done)} of {len(cuts)} boards looked at")
    failures = [f"{number}.img: {told}" for number, told in done.items() if isinstance(told, str)]
    (bench.own / "failures.txt").write_text("\n".join(failures))
    back = [took for took in done.values() if not isinstance(took, str)]
    within = sum(bool(cut.during) for cut, _ in cuts)
    bench.say(f"{len(cuts)} cuts, {within} within an operation; {len(failures)} boards did not come back")
    return {
        f"{bench.name}": len(cuts),
        f"{bench.name}_within": within,
        f"{bench.name}_failed": len(failures),
        f"{bench.name}_back_max_s": max(back, default=0.0),
    }


def _power(bench: Bench, image: bytes, number: int) -> tuple[Chip, Bridge, float]:
    """A board with what a cut left, its node at work by itself, and how long that took."""
    chip = Chip(bench.firmware, image, seed=100 + number)
    bridge = Bridge(chip, bench.own / "ports")
    bridge.serve(lambda: any(what == "I" for _, what in bridge.events), _BACK_S)
    back_s = next(at for at, what in bridge.events if what == "I")
    request = next(requests())
    chip.feed(protocol.encode("T", [("q", 1), *request.pairs]))
    bridge.serve(lambda: any(what == "T" for _, what in bridge.events), _ANSWER_S)
    return chip, bridge, back_s


def _check(
    bench: Bench, cut: Cut, image: bytes, number: int, keys: tuple[str, ...] = (), deploys: bool = False
) -> float:
    chip, bridge, back_s = _power(bench, image, number)
    proven = prove(bridge, bridge.home / "pulled", keys)
    if proven["last"] + 1 < cut.kept:
        raise RuntimeError(f"record {cut.kept - 1} was told to be kept, the journal ends with {proven['last']}")
    if deploys and number % _DEPLOY_AGAIN == 0:
        made = deployed(bridge, "--model", str(other_version(bench.own / "models")))
        if made["error"]:
            raise RuntimeError(f"a deploy after the cut fails: {made}")
    bridge.close()
    return back_s


def cuts_deploy(bench: Bench) -> Numbers:
    """In the deploy of another version to a board at work, its restart and its trial; some are deployed to again."""

    def make() -> list[tuple[Cut, bytes]]:
        chip, bridge = powered(bench, bench.image("deployed"))
        cutter = Cutter(chip, _count(bench), random.Random("deploy"))
        deployed(bridge, "--model", str(other_version(bench.own / "models")))
        bridge.close()
        return cutter.end()

    def check(bench: Bench, cut: Cut, image: bytes, number: int) -> float:
        return _check(bench, cut, image, number, deploys=True)

    return _revive_all(bench, _kept_cuts(bench, make), check)


def cuts_blank(bench: Bench) -> Numbers:
    """In the first deploy to a blank chip: running it again completes it."""

    def make() -> list[tuple[Cut, bytes]]:
        chip = Chip(bench.firmware)
        bridge = bench.bridge(chip)
        cutter = Cutter(chip, _count(bench), random.Random("blank"))
        deployed(bridge)
        bridge.close()
        return cutter.end()

    def check(bench: Bench, cut: Cut, image: bytes, number: int) -> float:
        chip = Chip(bench.firmware, image, seed=100 + number)
        bridge = Bridge(chip, bench.own / "ports")
        begun = chip.ns
        made = deployed(bridge)
        if made["error"]:
            raise RuntimeError(f"the deploy after the cut fails: {made}")
        prove(bridge, bridge.home / "pulled")
        bridge.close()
        return (chip.ns - begun) / 1e9

    return _revive_all(bench, _kept_cuts(bench, make), check)


def cuts_provision(bench: Bench) -> Numbers:
    """While a board is given its first keys, and restarts with them; the key file is the one of that moment."""
    password, key_file = bench.own / "password", bench.own / "keys.json"
    keys = ("--keys", str(key_file), "--password-file", str(password))

    def make() -> list[tuple[Cut, bytes]]:
        chip, bridge = powered(bench, bench.image("deployed"))
        made = new_keys(bench, bridge)
        assert made == keys and password.read_text() == PASSWORD + "\n"
        cutter = Cutter(chip, _count(bench), random.Random("provision"), lambda: {"keys": key_file.read_text()})
        bridge.sentill("provision", str(bridge.usb.link), *keys, "--profile", "service")
        bridge.close()
        return cutter.end()

    def check(bench: Bench, cut: Cut, image: bytes, number: int) -> float:
        key_file.write_text(cut.keys)
        return _check(bench, cut, image, number, keys)

    return _revive_all(bench, _kept_cuts(bench, make), check)


def cuts_commit(bench: Bench) -> Numbers:
    """While requests come and their records are kept: what was told to be kept is there."""

    def make() -> list[tuple[Cut, bytes]]:
        chip = bench.started()
        people = People(chip)
        terminal = Terminal(chip)

        def known() -> dict[str, Any]:
            told = [frame.fields["jk"] for _, frame in people.frames if "jk" in frame.fields]
            return {"kept": int(told[-1]) if told else 0}

        cutter = Cutter(chip, _count(bench), random.Random("commit"), known)
        terminal.play(Regime("mixed", 0, 700), 150, random.Random("commit"))
        return cutter.end()

    return _revive_all(bench, _kept_cuts(bench, make), _check)


def cuts_recovery(bench: Bench) -> Numbers:
    """While a board recovers from a cut in a deploy or in requests: a second cut, wherever the first one was."""
    first = [
        path
        for name in ("cuts_deploy", "cuts_commit")
        for path in sorted((bench.folder / name).glob("*.img"), key=lambda path: int(path.stem))
    ]

    def make() -> list[tuple[Cut, bytes]]:
        rng = random.Random("recovery")
        made: list[tuple[Cut, bytes]] = []
        chosen = [rng.choice(first) for _ in range(_count(bench))]
        for number, path in enumerate(chosen):
            chip = Chip(bench.firmware, path.read_bytes(), seed=200 + number)
            # Two, one of them within an operation, of which one is taken.
            cutter = Cutter(chip, 2, rng)
            Terminal(chip).wait_for("I", _BACK_S)
            chip.run(2.0)
            made.append(rng.choice(cutter.end()))
        return made

    return _revive_all(bench, _kept_cuts(bench, make), _check)
