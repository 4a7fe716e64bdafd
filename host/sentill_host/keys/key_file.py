"""The key file of a fleet: one master secret, from which every device's keys are derived; protected by a password.

    root(device, generation) = HKDF(master, "sentill root" + 8-byte id + generation u16)
    kept by the device       = HKDF(root, "sentill device"), of generation 0: the root
    key of a purpose         = HKDF(kept, "sentill " + purpose), as on the device (sentill.keys.derivation)

Journal keys come from the root itself, which the device forgets: what it keeps does not lead to the journal's past.

The file is JSON: the parameters of scrypt, and what AES-256-GCM made of the contents. The contents also hold the newest
generation given to each device, so that a device cannot be passed off with keys that were replaced.
"""

import base64
import contextlib
import json
import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from sentill import crypto
from sentill.keys import derivation
from sentill_host.errors import UsageError

FORMAT = "sentill keys 1"
PATH = "SENTILL_KEYS"
PASSWORD = "SENTILL_KEYS_PASSWORD"
_SCRYPT_N = 1 << 15  # 32 MB of memory, about 0.1 s
_LEAST_PASSWORD = 8
_MOST_BYTES = 1 << 24
_LOCK_S = 30.0
_WRITABLE = "keep it where it can be written: it notes which boards were given keys"


def default_path() -> Path:
    """$SENTILL_KEYS, or `sentill/keys.json` in the user's configuration folder."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(os.environ.get(PATH) or Path(base) / "sentill" / "keys.json")


def device_id(uid: str) -> bytes:
    """The 8 bytes that name the device with this unique id in hex; several ids make the same. Raises UsageError."""
    try:
        if not uid:
            raise ValueError
        return (bytes.fromhex(uid) + bytes(8))[:8]
    except ValueError:
        raise UsageError(f"{uid!r} is no unique id", "16 hex digits, as in the board's identity") from None


@dataclass
class KeyFile:
    """The opened key file at `path`. Its master secret and password key are kept out of every text form."""

    path: Path
    devices: dict[str, int] = field(default_factory=dict)  # unique id in hex: newest generation
    _master: bytes = field(default=b"", repr=False)
    _key: bytes = field(default=b"", repr=False)
    _salt: bytes = field(default=b"", repr=False)
    _n: int = _SCRYPT_N  # that _key was made with

    @classmethod
    def create(cls, path: Path, password: str) -> "KeyFile":
        """Make a new key file, readable by its owner only. Raises UsageError when there is one already."""
        if path.exists():
            raise UsageError(f"{path} exists already", "a key file is never overwritten: move it away first")
        made = cls(path, _master=secrets.token_bytes(32))
        made.protect(password)
        return made

    @classmethod
    def open(cls, path: Path, password: str) -> "KeyFile":
        """Open a key file. Raises UsageError: not there, no key file, or a wrong password."""
        outer = _outer(path)
        try:
            salt, n = base64.b64decode(outer["salt"]), int(outer["n"])
            key = _stretch(password, salt, n)
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is no key file") from None
        inner = _opened(key, outer, path)
        master = base64.b64decode(inner["master"])
        return cls(path, inner["devices"], _master=master, _key=key, _salt=salt, _n=n)

    def protect(self, password: str) -> None:
        """Write the file under a new password, with what others have noted. Raises UsageError for a short one."""
        if len(password) < _LEAST_PASSWORD:
            raise UsageError(f"a password has {_LEAST_PASSWORD} characters or more")
        with self._alone():
            if self._key:
                self.refresh()
            self._n = _SCRYPT_N
            self._salt = secrets.token_bytes(16)
            self._key = _stretch(password, self._salt, self._n)
            self.save()

    def note(self, uid: str, generation: int) -> None:
        """Keep that the device was given keys of `generation`. Several commands may do so at once.

        Raises UsageError when the file cannot be written, or has another password by now.
        """
        with self._alone():
            self.refresh()
            self.devices[uid] = max(generation, self.devices.get(uid, 0))
            self.save()

    def refresh(self) -> None:
        """Take over what other commands have noted. Raises UsageError when the file is damaged or its password new."""
        for known, newest in _opened(self._key, _outer(self.path), self.path)["devices"].items():
            self.devices[known] = max(newest, self.devices.get(known, 0))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = filelock.FileLock(self.path.with_name(self.path.name + ".lock"), timeout=_LOCK_S)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock.acquire()
        except filelock.Timeout:
            raise UsageError(f"{self.path} is in use by another command", "run this again after it") from None
        except OSError as error:
            raise UsageError(f"cannot write beside {self.path}: {error.strerror}", _WRITABLE) from None
        try:
            yield
        finally:
            lock.release()

    def save(self) -> None:
        """Write the file anew, whole or not at all. Raises UsageError when the folder cannot be written."""
        nonce = secrets.token_bytes(12)
        inner = {"master": base64.b64encode(self._master).decode(), "devices": self.devices}
        data = AESGCM(self._key).encrypt(nonce, json.dumps(inner).encode(), FORMAT.encode())
        outer = {"format": FORMAT, "n": self._n}
        outer |= {n: base64.b64encode(v).decode() for n, v in (("salt", self._salt), ("nonce", nonce), ("data", data))}
        beside = self.path.with_name(self.path.name + ".new")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(outer, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}", _WRITABLE) from None

    def root(self, uid: str, generation: int) -> bytes:
        """The root key of a device's generation (1..65535; 0 is that of devices without keys, no secret)."""
        if generation == 0:
            return crypto.LAB_ROOT
        return self._derive(b"root", uid, generation)

    def derive(self, uid: str, purpose: bytes, generation: int | None = None) -> bytes:
        """The device's key for a purpose; without a generation the newest one given to it."""
        if generation is None:
            generation = self.newest(uid)
        root = self.root(uid, generation)
        return derivation.derive(derivation.kept(root) if generation else root, purpose)

    def bundle(self) -> bytes:
        """The key under which bundle files are signed for the whole fleet."""
        return crypto.hkdf(self._master, b"sentill bundle")

    def recovery(self, uid: str, generation: int) -> bytes:
        """What lets a device whose keys were erased take new ones; it knows only the SHA-256 of it."""
        return self._derive(b"recovery", uid, generation)

    def newest(self, uid: str) -> int:
        """The newest generation given to the device, 0 for one without keys. Raises UsageError.

        However its id is spelled: who asks for the keys of another device under a longer id gets none.
        """
        wanted = device_id(uid)
        return max((given for known, given in self.devices.items() if known and device_id(known) == wanted), default=0)

    def check(self, uid: str, generation: int) -> None:
        """Raise UsageError when a device shows a generation older than the one it was given."""
        newest = self.newest(uid)
        if generation < newest:
            raise UsageError(
                f"device {uid} shows keys of generation {generation}, but was given {newest}",
                "its flash was put back to an older state, or another device poses as it: inspect it; where you erased "
                "its flash yourself, `sentill provision --blank` gives it new ones",
            )

    def _derive(self, what: bytes, uid: str, generation: int) -> bytes:
        return crypto.hkdf(self._master, b"sentill " + what + device_id(uid) + struct.pack("<H", generation))


def _outer(path: Path) -> dict[str, Any]:
    """The file as it lies on the disk. Raises UsageError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        outer: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if outer["format"] != FORMAT:
            raise ValueError
    except FileNotFoundError:
        raise UsageError(f"no key file {path}", "`sentill keys new` makes one; --keys names another") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no key file") from None
    return outer


def _opened(key: bytes, outer: dict[str, Any], path: Path) -> dict[str, Any]:
    """The contents of the file. Raises UsageError."""
    try:
        nonce, data = (base64.b64decode(outer[name]) for name in ("nonce", "data"))
        inner: dict[str, Any] = json.loads(AESGCM(key).decrypt(nonce, data, FORMAT.encode()))
    except InvalidTag:
        raise UsageError(f"wrong password for {path}, or the file is damaged") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is no key file") from None
    return inner


def _stretch(password: str, salt: bytes, n: int) -> bytes:
    if not 1 << 14 <= n <= 1 << 20 or n & (n - 1):
        raise ValueError("scrypt cost")
    return Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(password.encode())
