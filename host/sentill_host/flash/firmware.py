"""Firmware files: from this computer, or downloaded once and kept. No file is used whose SHA-256 is not the right one.

Neither source publishes checksums. So the hash can be given (`--sha256`, or `sha256` in fleet.toml); without one, the
hash of the first download is kept beside the file, told to the user, and later uses must match it.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from sentill_host.board.catalogue import Board
from sentill_host.errors import LinkError, UsageError, VerifyError

SITE = "SENTILL_FIRMWARE_SITE"
"""Environment variable: base URL of a mirror; it stands in for the host of every source."""

_TIMEOUT_S = 30.0
_MOST_BYTES = 64 << 20
_PIECE = 1 << 16
_VERSION = re.compile(r"-v(\d+\.\d+\.\d+)\b")
_HEX = re.compile(r"[0-9a-f]{64}")

Say = Callable[[str, int, int], None]
"""Called with (step in words, bytes done, bytes in all)."""


@dataclass(frozen=True)
class Image:
    """A firmware file that has been read and checked. `version` is "" when its name does not tell."""

    path: Path
    data: bytes
    sha256: str
    version: str
    source: str
    pinned: bool  # its hash was known before


def file_ending(board: Board) -> str:
    """ "bin" or "uf2". Raises UsageError for a board that has no firmware to flash."""
    ending = board.data.get("firmware", {}).get("file", "")
    if not ending:
        raise UsageError(f"{board.name} takes no firmware", "flash real boards; virtual ones bring their own")
    return str(ending)


def local(path: Path, sha256: str = "", version: str = "") -> Image:
    """The file at `path`. Its hash must be `sha256`, or what `PATH.sha256` says, where one is given."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise UsageError(f"{path} is no firmware: {size} bytes")
        data = path.read_bytes()
        beside = path.with_name(path.name + ".sha256")
        told = sha256 or (beside.read_text().split()[0] if beside.is_file() else "")
    except (OSError, IndexError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'its .sha256 is empty'}") from None
    return _image(path, data, told, version, "file")


def download(
    board: Board, version: str = "", *, variant: str = "", ulab: bool = False, sha256: str = "",
    say: Say | None = None, folder: Path | None = None, site: str = "",
) -> Image:  # fmt: skip
    """Firmware for `board` from its source, or from the copy kept of an earlier download.

    `version` is like "1.26.1"; without one the newest release. `variant` is one of the board's builds, such as SPIRAM
    (memory beside the chip), "" the plain one. `site` is the base URL of a mirror (default: $SITE).
    Raises UsageError when there is no such firmware, LinkError when the source cannot be reached, VerifyError when the
    hash is not the expected one.
    """
    say = say or (lambda *_: None)
    site = site or os.environ.get(SITE, "")
    folder = folder or Path(platformdirs.user_cache_dir("sentill")) / "firmware"
    ending = file_ending(board)
    if not re.fullmatch(r"(\d+\.\d+\.\d+)?", version):
        raise UsageError(f"no version: {version!r}", "like 1.26.1")
    if not re.fullmatch(r"[A-Z0-9_]*", variant):
        raise UsageError(f"no variant: {variant!r}", "like SPIRAM")
    build = f"{board.id}-{variant}" if variant else board.id
    kept = _kept(folder, build, version, ending, ulab)
    if kept is not None:
        return _image(kept, kept.read_bytes(), sha256 or _pin(kept).read_text().strip(), "", "kept")
    sources = _sources()
    if ulab:
        source = sources["ulab"]
        if board.id not in source["boards"]:
            raise UsageError(
                f"no build with ulab is published for {board.name}", "build one and give it with --file; see docs"
            )
        if version:
            raise UsageError("a build with ulab comes in one version only", "leave --version out, or give a --file")
        url = _at(site, source["url"].format(board=board.id, file=ending))
        name = f"{board.id}-ulab.{ending}"
    else:
        url, name = _official(sources["official"], board, build, version, ending, site)
    data = _fetch(url, say)
    image = _image(folder / name, data, sha256, "", url)
    _keep(folder, image)
    return image


def _official(
    source: dict[str, str], board: Board, build: str, version: str, ending: str, site: str
) -> tuple[str, str]:
    page_url = _at(site, source["page"].format(board=board.id))
    page = _fetch(page_url, lambda *_: None).decode("utf-8", "replace")
    found: dict[tuple[int, ...], re.Match[str]] = {}
    for match in re.finditer(source["link"].format(build=re.escape(build), file=ending), page):
        number = tuple(int(part) for part in match["version"].split("."))
        # The page lists the newest build of a version first.
        found.setdefault(number, match)
    wanted = tuple(int(part) for part in version.split(".")) if version else max(found, default=())
    if wanted not in found:
        known = ", ".join(".".join(map(str, number)) for number in sorted(found, reverse=True)[:8])
        raise UsageError(f"{build}: no firmware {version}".rstrip(), f"there are {known or 'none'} at {page_url}")
    url = urllib.parse.urljoin(page_url, found[wanted]["url"])
    if urllib.parse.urlsplit(url).netloc != urllib.parse.urlsplit(page_url).netloc:
        raise VerifyError(f"{page_url} leads to another site: {url}")
    return url, url.rpartition("/")[2]


def _sources() -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parent / "sources.toml").read_text(encoding="utf-8"))


def _at(site: str, url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return site.rstrip("/") + parts.path if site else url


def _require_safe(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")):
        raise UsageError(f"{url}: only https, or this computer")


def _fetch(url: str, say: Say) -> bytes:
    """The whole of a URL within _MOST_BYTES. Raises UsageError for "not found", LinkError for anything else."""
    _require_safe(url)
    name = url.rpartition("/")[2] or url
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            _require_safe(answer.url)  # where it was sent on to
            total = int(answer.headers.get("Content-Length") or 0)
            data = bytearray()
            while piece := answer.read(_PIECE):
                data += piece
                if len(data) > _MOST_BYTES:
                    raise LinkError(f"{url}: more than {_MOST_BYTES >> 20} MB; that is no firmware")
                say(f"downloading {name}", len(data), max(total, len(data)))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UsageError(f"{url}: not found", "check board and version") from None
        raise LinkError(f"{url}: the server answers {error.code}", "try again later, or give a --file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise LinkError(f"{url}: cannot be reached ({reason})", "check the network, or give a --file") from None
    if total and len(data) != total:
        raise LinkError(f"{url}: broke off after {len(data)} of {total} bytes", "try again")
    return bytes(data)


def _image(path: Path, data: bytes, sha256: str, version: str, source: str) -> Image:
    digest = hashlib.sha256(data).hexdigest()
    told = sha256.lower().strip()
    if told and not _HEX.fullmatch(told):
        raise UsageError(f"no SHA-256: {sha256!r}", "64 hexadecimal digits")
    if told and told != digest:
        raise VerifyError(
            f"{path.name} has SHA-256 {digest}, expected {told}",
            "do not use it; download it anew, and ask where the difference comes from if it stays",
        )
    if not version and (match := _VERSION.search(path.name)):
        version = match[1]
    return Image(path, data, digest, version, source, bool(told))


def _kept(folder: Path, build: str, version: str, ending: str, ulab: bool) -> Path | None:
    """The kept file of exactly this board and version; the newest is asked for anew each time."""
    pattern = f"{build}-ulab.{ending}" if ulab else f"{build}-????????-v{version}.{ending}"
    if not ulab and not version:
        return None
    return next((path for path in sorted(folder.glob(pattern), reverse=True) if _pin(path).is_file()), None)


def _pin(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _keep(folder: Path, image: Image) -> None:
    """Put the file and its hash into the folder, each whole or not at all; the hash makes it count."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in ((image.path, image.data), (_pin(image.path), image.sha256.encode() + b"\n")):
        handle, beside = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
