# For MicroPython's build: freezes the package into a firmware (make FROZEN_MANIFEST=.../device/manifest.py).
# Models, board.py, main.py and config.json stay on the file system, where an update reaches them.
metadata(description="Sensor node inside a payment terminal", version="0.1.0")  # type: ignore[name-defined]  # noqa: F821
package("sentill", base_path=".", opt=2)  # type: ignore[name-defined]  # noqa: F821
module("sentill_start.py", base_path=".", opt=2)  # type: ignore[name-defined]  # noqa: F821
