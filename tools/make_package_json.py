"""Writes device/package.json, which lets `mpremote mip install` and `mip.install` take the package from a checkout.

URLs are relative to the file, so it works from any mirror.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.device_modules import DEVICE, modules  # noqa: E402

TARGET = DEVICE / "package.json"


def text() -> str:
    """What the file must contain."""
    scope: dict[str, str] = {}
    exec((DEVICE / "sentill" / "__init__.py").read_text(), scope)
    files = ["sentill_start.py"] + [path.relative_to(DEVICE).as_posix() for path in modules().values()]
    files += sorted(path.relative_to(DEVICE).as_posix() for path in (DEVICE / "models").glob("*.stm"))
    urls = [[name, name] for name in files]
    return json.dumps({"version": scope["__version__"], "urls": urls, "deps": []}, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
