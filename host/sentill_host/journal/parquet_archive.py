"""Proven journal records as Parquet, partitioned by terminal and date, for queries.

    FOLDER/terminal=UID/date=YYYY-MM-DD/part-SEQUENCE.parquet
    FOLDER/terminal=UID/_archived.json      up to which record

Only what the verifier proved goes in. A run that was cut short writes the same files again.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from sentill_host.errors import UsageError
from sentill_host.journal.decode import Entry, read
from sentill_host.journal.journal_file import Record

SCHEMA = pa.schema(
    [
        pa.field("terminal", pa.string()),
        pa.field("date", pa.string()),
        pa.field("sequence", pa.uint32()),
        pa.field("time", pa.timestamp("s", tz="UTC")),
        pa.field("kind", pa.string()),
        pa.field("text", pa.string()),
        pa.field("fields", pa.map_(pa.string(), pa.string())),
        pa.field("ref", pa.uint32()),
        pa.field("amount_cents", pa.uint32()),
        pa.field("score", pa.int32()),
        pa.field("verdict", pa.string()),
        pa.field("reasons", pa.string()),
        pa.field("model", pa.string()),
        pa.field("card", pa.string()),
        pa.field("generation", pa.uint16()),
        pa.field("proof", pa.string()),
        pa.field("tag", pa.string()),
    ]
)
_PARTITIONING = ds.partitioning(pa.schema([("terminal", pa.string()), ("date", pa.string())]), flavor="hive")


def table(uid: str, records: Sequence[Record]) -> pa.Table:
    """The rows of a terminal's records."""
    return pa.Table.from_pylist([_row(uid, read(record)) for record in records], schema=SCHEMA)


def _row(uid: str, entry: Entry) -> dict[str, Any]:
    record, verdict = entry.record, entry.verdict
    row: dict[str, Any] = {
        "terminal": uid,
        "date": entry.at.date().isoformat(),
        "sequence": record.sequence,
        "time": entry.at,
        "kind": record.name,
        "text": entry.text,
        "fields": list(entry.fields.items()),
        "generation": record.generation,
        "proof": entry.proof,
        "tag": record.tag.hex(),
    }
    return row | (vars(verdict) if verdict else {})


def archive(folder: Path, uid: str, records: Sequence[Record]) -> int:
    """Add those of a terminal's proven records to the archive in `folder` that it lacks; how many these were.

    Raises UsageError when the archive holds other records of this terminal, or cannot be written.
    """
    state = folder / f"terminal={uid}" / "_archived.json"
    done = _archived(state)
    if done and (known := [r for r in records if r.sequence == done["sequence"]]) and known[0].tag.hex() != done["tag"]:
        raise UsageError(f"the archive in {folder} holds another journal of {uid}", "name another folder with --to")
    new = [record for record in records if not done or record.sequence > done["sequence"]]
    if not new:
        return 0
    try:
        ds.write_dataset(
            table(uid, new),
            folder,
            format="parquet",
            partitioning=_PARTITIONING,
            basename_template=f"part-{new[0].sequence:010d}-{{i}}.parquet",
            existing_data_behavior="overwrite_or_ignore",
        )
        part = state.with_suffix(".new")
        part.write_text(json.dumps({"sequence": new[-1].sequence, "tag": new[-1].tag.hex()}), encoding="utf-8")
        os.replace(part, state)
    except OSError as error:
        raise UsageError(f"cannot write the archive in {folder}: {error}") from None
    return len(new)


def _archived(state: Path) -> dict[str, Any] | None:
    if not state.exists():
        return None
    try:
        done: dict[str, Any] = json.loads(state.read_text(encoding="utf-8"))
        return {"sequence": int(done["sequence"]), "tag": str(done["tag"])}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"{state} is damaged: {error}", "remove the terminal's folder; archive anew") from None
