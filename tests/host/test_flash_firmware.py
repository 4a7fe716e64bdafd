"""Firmware files and their hashes: local ones, and downloads from a server on this computer."""

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from sentill_host.board import catalogue
from sentill_host.errors import LinkError, UsageError, VerifyError
from sentill_host.flash import firmware
from sentill_host.flash.memory import Remembered

PICO = catalogue.load("RPI_PICO")


class Site:
    """A web server with the given paths; counts what is asked for."""

    def __init__(self, pages: dict[str, bytes]):
        self.pages = pages
        self.asked: list[str] = []
        self.cut = False
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                data = site.pages.get(self.path)
                if data is None or self.path == "/broken":
                    self.send_error(404 if data is None else 500)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if site.cut else data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def page(*files: str) -> bytes:
    links = "\n".join(f'<li><a class="file" href="/resources/firmware/{name}">{name}</a></li>' for name in files)
    return f"<html><h2>Releases</h2><ul>{links}</ul></html>".encode()


FILES = [
    "RPI_PICO-20250911-v1.26.1.uf2",
    "RPI_PICO-20250911-v1.26.1.elf",
    "RPI_PICO-20250415-v1.25.0.uf2",
    "RPI_PICO-20241129-v1.24.1.uf2",
    "RPI_PICO-20251001-v1.27.0-preview.95.g0a1b2c3d.uf2",
    "RPI_PICO_W-20250911-v1.99.0.uf2",
    "RPI_PICO-SPIRAM-20250911-v1.26.1.uf2",
]


@pytest.fixture
def site():
    pages = {f"/resources/firmware/{name}": name.encode() * 100 for name in FILES}
    pages["/download/RPI_PICO/"] = page(*FILES)
    pages["/v923z/micropython-builder/releases/download/latest/RPI_PICO.uf2"] = b"with ulab" * 100
    pages["/broken"] = b""
    served = Site(pages)
    yield served
    served.close()


def get(site: Site, folder: Path, version: str = "", **options) -> firmware.Image:
    return firmware.download(PICO, version, site=site.url, folder=folder, **options)


def test_the_newest_release_is_found_and_previews_are_not(site, tmp_path):
    steps = []
    image = get(site, tmp_path, say=lambda *step: steps.append(step))
    assert (image.path.name, image.version) == (FILES[0], "1.26.1")
    assert image.data == FILES[0].encode() * 100
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()
    assert not image.pinned
    assert steps[-1] == (f"downloading {FILES[0]}", len(image.data), len(image.data))


def test_a_version_is_downloaded_once_and_its_hash_holds_ever_after(site, tmp_path):
    first = get(site, tmp_path, "1.25.0")
    assert first.path.read_bytes() == first.data
    count = len(site.asked)
    second = get(site, tmp_path, "1.25.0")
    assert (second.data, second.pinned, second.source) == (first.data, True, "kept")
    assert len(site.asked) == count
    first.path.write_bytes(first.data + b"!")
    with pytest.raises(VerifyError, match="expected"):
        get(site, tmp_path, "1.25.0")


def test_a_variant_is_a_file_of_its_own(site, tmp_path):
    plain = get(site, tmp_path, "1.26.1")
    variant = get(site, tmp_path, "1.26.1", variant="SPIRAM")
    assert (plain.path.name, variant.path.name) == (FILES[0], FILES[-1])
    assert get(site, tmp_path, "1.26.1").data == plain.data
    kept = get(site, tmp_path, "1.26.1", variant="SPIRAM")
    assert (kept.data, kept.source) == (variant.data, "kept")
    with pytest.raises(UsageError, match="RPI_PICO-OTHER: no firmware"):
        get(site, tmp_path, variant="OTHER")
    with pytest.raises(UsageError, match="no variant"):
        get(site, tmp_path, variant="../x")


def test_a_given_hash_decides(site, tmp_path):
    right = hashlib.sha256(FILES[2].encode() * 100).hexdigest()
    with pytest.raises(VerifyError, match=f"has SHA-256 {right}, expected {'0' * 64}"):
        get(site, tmp_path, "1.25.0", sha256="0" * 64)
    assert not list(tmp_path.glob("*.uf2")), "a wrong file is not kept"
    assert get(site, tmp_path, "1.25.0", sha256=right.upper()).pinned
    with pytest.raises(UsageError, match="no SHA-256: 'abc'"):
        get(site, tmp_path, "1.24.1", sha256="abc")


def test_what_does_not_exist_is_said_with_what_does(site, tmp_path):
    with pytest.raises(UsageError, match="no firmware 9.9.9") as caught:
        get(site, tmp_path, "9.9.9")
    assert "1.26.1, 1.25.0, 1.24.1" in caught.value.hint
    with pytest.raises(UsageError, match="no version"):
        get(site, tmp_path, "latest")
    site.pages.pop(f"/resources/firmware/{FILES[0]}")
    with pytest.raises(UsageError, match="not found"):
        get(site, tmp_path)


def test_a_build_with_ulab_is_selectable(site, tmp_path):
    image = get(site, tmp_path, ulab=True)
    assert image.data == b"with ulab" * 100
    assert get(site, tmp_path, ulab=True).source == "kept"
    with pytest.raises(UsageError, match="one version only"):
        firmware.download(PICO, "1.25.0", ulab=True, site=site.url, folder=tmp_path / "other")
    with pytest.raises(UsageError, match="no build with ulab"):
        firmware.download(catalogue.load("ESP32_GENERIC"), ulab=True, site=site.url, folder=tmp_path)
    with pytest.raises(UsageError, match="takes no firmware"):
        firmware.download(catalogue.load("SIM"), site=site.url, folder=tmp_path)


def test_a_broken_transfer_leaves_nothing_behind(site, tmp_path):
    site.cut = True
    with pytest.raises(LinkError, match="broke off|cannot be reached"):
        get(site, tmp_path)
    assert not list(tmp_path.iterdir()) if tmp_path.exists() else True
    site.cut = False
    assert get(site, tmp_path).version == "1.26.1"


def test_a_page_that_leads_elsewhere_is_not_followed(site, tmp_path):
    site.pages["/download/RPI_PICO/"] = page(FILES[0]).replace(b'href="', b'href="http://127.0.0.2:9')
    with pytest.raises(VerifyError, match="leads to another site"):
        get(site, tmp_path)


def test_only_encrypted_or_local_sources_are_asked(tmp_path):
    with pytest.raises(UsageError, match="only https"):
        firmware.download(PICO, site="http://192.0.2.1", folder=tmp_path)
    with pytest.raises(UsageError, match="only https"):
        firmware.download(PICO, site="http://localhost.example.org", folder=tmp_path)


def test_a_dead_server_is_an_error_with_a_way_out(tmp_path):
    dead = Site({})
    dead.close()
    with pytest.raises(LinkError, match="cannot be reached") as caught:
        firmware.download(PICO, site=dead.url, folder=tmp_path)
    assert "--file" in caught.value.hint


def test_a_local_file_is_held_against_the_hash_beside_it(tmp_path):
    path = tmp_path / "RPI_PICO-20250911-v1.26.1.uf2"
    path.write_bytes(b"firmware")
    digest = hashlib.sha256(b"firmware").hexdigest()
    assert (firmware.local(path).version, firmware.local(path).pinned) == ("1.26.1", False)
    (tmp_path / (path.name + ".sha256")).write_text(f"{digest}  {path.name}\n")
    assert firmware.local(path).pinned
    path.write_bytes(b"firmwarf")
    with pytest.raises(VerifyError, match="do not use|expected"):
        firmware.local(path)
    with pytest.raises(UsageError):
        firmware.local(tmp_path / "absent.bin")


def test_a_board_is_remembered_by_its_chip_and_a_damaged_file_is_survived(tmp_path):
    memory = Remembered(tmp_path / "deep" / "boards.json")
    assert memory.board_of("E66058") == ""
    memory.remember("E66058", "RPI_PICO_W")
    memory.remember("aabbcc", "RPI_PICO")
    memory.remember("", "RPI_PICO")
    assert (memory.board_of("e66058"), memory.board_of("AABBCC"), memory.board_of("")) == ("RPI_PICO_W", "RPI_PICO", "")
    memory.path.write_text("{")
    assert memory.board_of("e66058") == ""
    memory.remember("e66058", "RPI_PICO")
    assert memory.board_of("e66058") == "RPI_PICO"
