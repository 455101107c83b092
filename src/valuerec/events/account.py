"""The account of a dataset's rows, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group

from valuerec.dataset import KINDS
from valuerec.events.formats import FORMATS
from valuerec.printing import whole_table


def account_table(manifest: Mapping[str, Any]) -> Group:
    """Rows read = kept + filtered + duplicates + quarantined, by reason, and the counts beside the published ones."""
    account = manifest["account"]
    rows = whole_table("rows", "", "", title="Account of every row")
    rows.columns[2].justify = "right"
    for source in manifest["sources"]:
        rows.add_row("read", source["name"], f"{source['rows']:,}")
    rows.add_row("= kept", "", f"{account['kept']:,}")
    for reason, count in account["filtered"].items():
        rows.add_row("+ filtered", reason, f"{count:,}")
    if manifest["config"]["drop_duplicates"]:
        rows.add_row("+ duplicates", "", f"{account['duplicates']:,}")
    for reason, count in account["bad"].items():
        rows.add_row("+ quarantined", reason, f"{count:,}")
    if account["bad"]:
        rows.caption = f"Quarantined rows: {manifest['quarantine']}"
    counts, published = manifest["counts"], FORMATS[manifest["config"]["format"]].published
    splits = manifest["splits"]
    sizes = whole_table("", "here", *splits, *(["published, full log"] if published else []), title="What was prepared")
    for name in ("sessions", "items", "clicks", "purchases", *manifest.get("event_kinds", KINDS)[len(KINDS) :]):
        parts = [f"{split[name]:,}" if name in split else "" for split in splits.values()]
        full = [f"{published[name]:,}" if name in published else ""] if published else []
        sizes.add_row(name, f"{counts[name]:,}", *parts, *full)
    for column in sizes.columns[1:]:
        column.justify = "right"
    return Group(rows, sizes)
