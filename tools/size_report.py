"""Sizes of every device module: source, bytecode and the heap an import keeps; with the change since the baseline.

    python tools/size_report.py            prints the table
    python tools/size_report.py --update   also writes the baseline

`.py` and `.mpy` are bytes of files; a module with native code has one .mpy per architecture, listed apart, and counts
with that of the RP2040. `ram64` is measured on the Unix port (64-bit, after a collection), `ram32` on 32-bit
WebAssembly (without collections, an upper bound); both import the .mpy, after the package modules it imports (a module
of the standard library counts with the first that needs it).
A dash: that interpreter cannot import it (hardware, asyncio or native code it lacks).
"""

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sentill_host.bundle.build import compile_file, is_for, is_native  # noqa: E402
from tests.interpreters import ChildError, Interpreter  # noqa: E402
from tools.device_modules import DEVICE, in_import_order, modules  # noqa: E402

BASELINE = ROOT / "tools" / "size_baseline.json"
COLUMNS = ("py", "mpy", "ram64", "ram32")
ARCHES = ("armv6m", "xtensawin", "x64")  # RP2040, ESP32 and ESP32-S3, the virtual board

Sizes = dict[str, int]


def compiled_bytes(source: Path, arch: str = "") -> int:
    """Bytes of the module compiled as shipped."""
    return len(compile_file(source.relative_to(DEVICE).as_posix(), source.read_bytes(), arch))


def measure() -> dict[str, Sizes]:
    """Sizes of every module, by dotted name, in import order; a missing key is a dash in the table."""
    known = modules()
    report: dict[str, Sizes] = {}
    with (
        tempfile.TemporaryDirectory(prefix="sentill-sizes-") as folder,
        Interpreter("unix-mpy", Path(folder)) as unix,
        Interpreter("wasm-mpy", Path(folder)) as wasm,
    ):
        for name in in_import_order():
            path = known[name]
            row = {"py": path.stat().st_size}
            if is_native(source := path.read_bytes()):
                row |= {f"mpy_{arch}": compiled_bytes(path, arch) for arch in ARCHES if is_for(source, arch)}
                row["mpy"] = row["mpy_armv6m"]
            else:
                row["mpy"] = compiled_bytes(path)
            for column, child in (("ram64", unix), ("ram32", wasm)):
                try:
                    row[column] = child.call("_import_bytes:import_bytes", name)
                except ChildError as error:
                    if error.kind not in ("ImportError", "AttributeError"):
                        raise
            report[name] = row
    return report


def table(report: dict[str, Sizes], baseline: dict[str, Sizes]) -> str:
    """The report as text, changes against the baseline in brackets."""
    lines = [f"{'module':28}" + "".join(f"{column:>18}" for column in COLUMNS)]
    for name, row in [*report.items(), ("total", _total(report))]:
        old = _total(baseline) if name == "total" else baseline.get(name, {})
        lines.append(f"{name:28}" + "".join(f"{_cell(row.get(c), old.get(c)):>18}" for c in COLUMNS))
    for name, row in report.items():
        if parts := [f"{key.removeprefix('mpy_')} {size}" for key, size in row.items() if key.startswith("mpy_")]:
            lines.append(f"{name}, .mpy per architecture: {', '.join(parts)}")
    lines += [f"gone since the baseline: {name}" for name in baseline if name not in report]
    return "\n".join(lines)


def _total(report: dict[str, Sizes]) -> Sizes:
    return {column: sum(row.get(column, 0) for row in report.values()) for column in COLUMNS}


def _cell(now: int | None, then: int | None) -> str:
    if now is None:
        return "-"
    if then is None:
        return f"{now} (new)"
    return str(now) if now == then else f"{now} ({now - then:+d})"


def main() -> None:
    report = measure()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    print(table(report, baseline))
    if "--update" in sys.argv[1:]:
        BASELINE.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
        print(f"wrote {BASELINE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
