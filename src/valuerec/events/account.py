"""The account of a dataset's rows, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group

from valuerec.events.formats import FORMATS
from valuerec.printing import whole_table


def account_table(manifest: Mapping[str, Any]) -> Group:
    """Rows read = kept + filtered by reason + bad by reason, and the counts beside those published for the full log."""
    account = manifest["account"]
    rows = whole_table("rows", "", "", title="Account of every row")
    rows.columns[2].justify = "right"
    for source in manifest["sources"]:
        rows.add_row("read", source["name"], f"{source['rows']:,}")
    rows.add_row("= kept", "", f"{account['kept']:,}")
    for part in ("filtered", "bad"):
        for reason, count in account[part].items():
            rows.add_row(f"+ {part}", reason, f"{count:,}")
    if account["bad"]:
        rows.caption = "Bad rows: quarantine.parquet"
    counts, published = manifest["counts"], FORMATS[manifest["config"]["format"]].published
    splits = manifest["splits"]
    sizes = whole_table("", "here", *splits, *(["published, full log"] if published else []), title="What was prepared")
    for name in ("sessions", "items", "clicks", "purchases"):
        parts = [f"{split[name]:,}" if name in split else "" for split in splits.values()]
        sizes.add_row(name, f"{counts[name]:,}", *parts, *([f"{published[name]:,}"] if published else []))
    for column in sizes.columns[1:]:
        column.justify = "right"
    return Group(rows, sizes)
