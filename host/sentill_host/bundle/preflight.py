"""What stands against a deploy, found before the first write: one finding a line, each with what to do."""

from dataclasses import dataclass
from typing import Any

from sentill_host.bundle.build import Bundle, Firmware
from sentill_host.errors import VerifyError

# littlefs needs a few blocks to work in besides the files themselves.
_SPARE_BLOCKS = 6
_MIN_HEAP_FREE = 40_000


@dataclass(frozen=True)
class Finding:
    """One thing that must change first, and how."""

    text: str
    hint: str


def findings(about: dict[str, Any], made: Bundle, slot: str) -> list[Finding]:
    """What keeps the version `made` from going into `slot` of the board that said `about` (bundle/onboard/agent.py)."""
    found = []
    firmware = Firmware(tuple(about["version"][:3]), about["mpy"])
    least = tuple(int(part) for part in made.min_firmware.split("."))
    if firmware.version < least:
        found.append(
            Finding(f"MicroPython {firmware.text} is too old, {made.min_firmware} is needed", "`sentill flash` it anew")
        )
    if any(entry.path.endswith(".mpy") for entry in made.entries) and made.mpy & 0xFF != firmware.mpy_version:
        found.append(
            Finding(
                f"the bundle is of .mpy version {made.mpy & 0xFF}, the board loads {firmware.mpy_version or 'none'}",
                f"build it with --mpy {firmware.mpy}",
            )
        )
    block = about["block"]
    if not block:
        found.append(Finding("the board has no file system", "flash MicroPython anew; its first start makes one"))
    else:
        # Besides the contents their index, and the two files for the root.
        need = (-(-made.size // block) + 4 + _SPARE_BLOCKS) * block
        free = about["flash_free"] + about["slots"].get(slot, {}).get("bytes", 0)
        if need > free:
            found.append(
                Finding(
                    f"flash is too full: {need // 1024} KB needed, {free // 1024} KB free",
                    "remove files that are not part of the node, or format the file system",
                )
            )
    if about["heap_free"] < _MIN_HEAP_FREE:
        found.append(
            Finding(
                f"only {about['heap_free']} bytes of heap are free",
                "remove what boot.py starts, or choose smaller firmware",
            )
        )
    return found


def require(port: str, found: list[Finding]) -> None:
    """Raise VerifyError with all findings, one a line, unless there are none."""
    if found:
        raise VerifyError(
            f"{port}: " + "\n".join(finding.text for finding in found), "\n".join(finding.hint for finding in found)
        )
