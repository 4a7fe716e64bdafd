"""Steps that deploy, by the commands that people use: to a blank chip, again, another version, and back; with keys."""

import json
import shutil
from pathlib import Path
from typing import Any

from sentill_host.board import catalogue
from sentill_host.bundle import build as bundle
from tests.chip import files
from tests.chip.bridge import Bridge
from tests.chip.chip import Chip
from tests.chip.run import Bench, Numbers

_START_S = 30.0
PASSWORD = "a password of the lab"


def deployed(bridge: Bridge, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(bridge.sentill("deploy", str(bridge.usb.link), "--json", *options))
    return told


def powered(bench: Bench, image: bytes) -> tuple[Chip, Bridge]:
    """A board with these files, behind pseudo-terminals, once its node has said who it is."""
    chip = Chip(bench.firmware, image)
    bridge = bench.bridge(chip)
    bridge.serve(lambda: any(what == "I" for _, what in bridge.events), _START_S)
    return chip, bridge


def other_version(folder: Path) -> Path:
    """A folder of models that makes another version of the one that is deployed: it holds one more."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(catalogue.device_data("models") / "rules.stm", folder / "spare.stm")
    return folder


def deploy(bench: Bench) -> Numbers:
    """To a blank chip, and again: the second finds nothing to do. Leaves the image `deployed`."""
    chip = Chip(bench.firmware)
    chip.enter_repl()
    mpy = int(chip.exec("import sys; print(sys.implementation._mpy)"))
    # What is compiled is kept: it would count as the board's time.
    bundle.build(catalogue.load("RPI_PICO"), bundle.Firmware((1, 0, 0), mpy))
    chip = Chip(bench.firmware)
    bridge = bench.bridge(chip)
    first = deployed(bridge)
    bench.say(f"{first['copied_bytes']:,} bytes in {first['seconds']:.1f} s of the chip's time")
    first_boot_s = bridge.last_start_s()
    again = deployed(bridge)
    bridge.close()
    if not again["unchanged"]:
        raise RuntimeError(f"the second deploy found something to change: {again}")
    bench.keep("deployed", chip)
    image = chip.files()
    return {
        "deploy_s": first["seconds"],
        "deploy_verified_s": first["verified_s"],
        "deploy_bytes": first["copied_bytes"],
        "deploy_again_s": again["seconds"],
        "first_boot_s": first_boot_s,
        "slot_blocks": files.taken_by(image, "slot_"),
        "used_blocks": files.used(image),
    }


def change(bench: Bench) -> Numbers:
    """Another version to the board that runs, on trial and proven; a power cut; and back to the version before."""
    chip, bridge = powered(bench, bench.image("deployed"))
    link = str(bridge.usb.link)
    made = deployed(bridge, "--model", str(other_version(bench.own / "models")))
    if made["slot"] != "b" or made["unchanged"]:
        raise RuntimeError(f"the other version did not go to the other slot: {made}")
    bench.say(f"another version in {made['seconds']:.1f} s, {made['copied_bytes']:,} bytes")
    trial_s = bridge.last_start_s()
    bridge.usb.down()
    chip.cut()
    bridge.events.clear()
    bridge.serve(lambda: any(what == "I" for _, what in bridge.events), _START_S)
    used = files.used(chip.files())
    back = json.loads(bridge.sentill("rollback", link, "--json"))
    if back["slot"] != "a" or back["error"]:
        raise RuntimeError(f"the rollback did not bring the former slot back: {back}")
    bridge.close()
    return {
        "trial_boot_s": trial_s,
        "deploy_change_s": made["seconds"],
        "deploy_change_bytes": made["copied_bytes"],
        "rollback_s": back["seconds"],
        "two_slots_blocks": used,
    }


def access(bench: Bench) -> Numbers:
    """Keys, refusal without them, a session with mpremote in it, a deploy with keys; the journal is proven at the end.

    Leaves the image `locked` and the key file.
    """
    chip, bridge = powered(bench, bench.image("deployed"))
    link = str(bridge.usb.link)
    keys = new_keys(bench, bridge)
    told = json.loads(bridge.sentill("provision", link, *keys, "--profile", "service", "--json"))
    if told["generation"] != 1:
        raise RuntimeError(f"the board did not get its keys: {told}")
    if _exits_well(bridge, "deploy", link, "--model", str(other_version(bench.own / "models"))):
        raise RuntimeError("a locked board took a deploy without keys")
    bridge.sentill("unlock", link, *keys)
    # USB that a frozen start began ends at the soft reset that mpremote begins with.
    resume = ("resume",) if told["frozen_start"] else ()
    listed = bridge.module("mpremote", "connect", str(link), *resume, "fs", "ls")
    if "main.py" not in listed:
        raise RuntimeError(f"mpremote sees no files: {listed!r}")
    bridge.sentill("lock", link, *keys)
    bridge.serve(lambda: bridge.chip.connected, _START_S)
    made = deployed(bridge, *keys, "--model", str(bench.own / "models"))
    if made["slot"] != "b" or made["error"]:
        raise RuntimeError(f"the locked board did not take a deploy with keys: {made}")
    proven = prove(bridge, bench.own / "journals", keys)["proven"]
    bridge.close()
    bench.keep("locked", chip)
    return {"access_deploy_s": made["seconds"], "access_records_proven": proven}


def new_keys(bench: Bench, bridge: Bridge) -> tuple[str, ...]:
    """A fresh key file, as options of a command."""
    password = bench.own / "password"
    password.write_text(PASSWORD + "\n")
    file = bench.own / "keys.json"
    file.unlink(missing_ok=True)
    options = ("--keys", str(file), "--password-file", str(password))
    bridge.sentill("keys", "new", *options)
    return options


def _exits_well(bridge: Bridge, *arguments: str) -> bool:
    try:
        bridge.sentill(*arguments)
    except RuntimeError:
        return False
    return True


def prove(bridge: Bridge, folder: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Pull the journal and verify it: its first and last record, how many are proven. Raises RuntimeError."""
    bridge.sentill("journal", "pull", str(bridge.usb.link), "--dir", str(folder), *keys)
    told = json.loads(bridge.sentill("journal", "verify", "--dir", str(folder), "--json", *keys))
    (row,) = told["journals"]
    if row["finding"] or not row["proven"]:
        raise RuntimeError(f"the journal is not proven: {row}")
    return dict(row)
