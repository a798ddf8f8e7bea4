"""Write the tables of `docs/reference/performance.md` from JSON files, one for each Python.

`python -m bench.document PAGE FILE...` rewrites what is between the markers; with `--check` it only compares and exits
with 1 if the page says something else than the files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.report import figure, nearest
from bench.table import GROUPS

BEGIN: Final = "<!-- bench: begin -->"
END: Final = "<!-- bench: end -->"


def tables(documents: Sequence[Mapping[str, Any]]) -> str:
    """The page's part: for each group a table, with a column of figures for each Python."""
    documents = sorted(documents, key=lambda one: [int(part) for part in one["python"].split(".")[:2]])
    pythons = [".".join(one["python"].split(".")[:2]) for one in documents]
    by_key = [{row["key"]: row for row in one["rows"]} for one in documents]
    text: list[str] = []
    for group, title in GROUPS.items():
        rows = [row for row in documents[0]["rows"] if row["group"] == group]
        if not rows:
            continue
        text += [f"### {title}", ""]
        text.append(f"| what | beside | {' / '.join(pythons)} | ambitious | must | best peers, {pythons[0]} |")
        text.append("|---|---|---|---|---|---|")
        for row in rows:
            unit = row["unit"]
            found = [one.get(row["key"], {}) for one in by_key]
            values = " / ".join(figure(one["value"], unit) if "value" in one else "-" for one in found)
            text.append(
                f"| {row['title']} | {row['baseline'] or unit} | {values} | {figure(row['ambitious'], unit)} "
                f"| {figure(row['must'], unit)} | {nearest(row, 3) or '-'} |"
            )
        text.append("")
    versions = ", ".join(f"{name} {version}" for name, version in sorted(documents[0]["versions"].items()))
    parameters = documents[0]["parameters"]
    text.append(
        f"CPython {', '.join(one['python'] for one in documents)}; commit {documents[0]['commit'][:12]}; "
        f"{parameters['processes']} processes of {parameters['rounds']} rounds each. Versions: {versions}."
    )
    return "\n".join(text)


def rewritten(page: str, part: str) -> str:
    """The page with the part between its markers.

    Raises:
        ValueError: A marker is missing.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the markers {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{part}\n\n{END}{tail}"


def main() -> int:
    """Rewrite or check a page."""
    parser = argparse.ArgumentParser(prog="python -m bench.document", description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page would change")
    options = parser.parse_args()
    page = options.page.read_text("utf-8")
    new = rewritten(page, tables([json.loads(path.read_text("utf-8")) for path in options.files]))
    if options.check:
        if new != page:
            print(
                f"{options.page} differs from what the files say; run: python -m bench.document {options.page} FILE..."
            )
            return 1
        return 0
    options.page.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
