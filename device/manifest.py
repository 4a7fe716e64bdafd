# For MicroPython's build: freezes the package into a firmware (make FROZEN_MANIFEST=.../device/manifest.py).
# Models, board.py, main.py and config.json stay on the file system, where an update reaches them.
package("sentill", base_path=".", opt=2)  # type: ignore[name-defined]  # noqa: F821
