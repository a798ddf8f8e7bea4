"""What a match in a gallery costs, and that its first rank is exact: `python proof/matching.py [--small]`.

For each size: milliseconds for one query of the gallery, of a plain numpy product with argmax, and of a Python loop
over rows, by turns in the same run; medians. Then near-ties are planted, embeddings whose cosines with a query differ
by less than float32 can tell, and the gallery's first rank is compared with the one of float64: as it stands, while
other threads add and remove, and after saving and loading.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _report import Proof

# All that is compared runs on one processor: the threads of a matrix product wait for each other, on a busy machine for
# longer than the product takes.
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

proof = Proof(
    "matching",
    "Rank 1 of a gallery is that of float64, also during changes and after reload, at the price of a plain product",
    __doc__,
    "1,000 and 10,000 faces",
)
LENGTH = 512
SIZES = (1_000, 100_000, 1_000_000)
SMALL_SIZES = (1_000, 10_000)
TIES = 32  # rows around each planted query
QUERIES = 20
MOST_TIMES, MOST_MORE = 3.0, 2.0  # times a plain product, and milliseconds more, that a match may take


def exact_first(numpy: Any, rows: Any, queries: Any) -> list[str]:
    """For each query the number of the row with the largest cosine in float64."""
    best = numpy.full(len(queries), -2.0)
    first = numpy.zeros(len(queries), numpy.int64)
    for start in range(0, len(rows), 65_536):
        part = rows[start : start + 65_536].astype(numpy.float64)
        cosines = (part @ queries.T) / numpy.sqrt((part * part).sum(axis=1))[:, None]
        places = cosines.argmax(axis=0)
        values = cosines[places, range(len(queries))]
        first = numpy.where(values > best, start + places, first)
        best = numpy.maximum(values, best)
    return [str(number) for number in first]


def plant(numpy: Any, random: Any, rows: Any) -> Any:
    """Put near-ties around each query into the rows; returns the queries, of length 1."""
    queries = random.standard_normal((QUERIES, LENGTH))
    queries /= numpy.linalg.norm(queries, axis=1, keepdims=True)
    places = random.choice(len(rows), (QUERIES, TIES), replace=False)
    for query, where in zip(queries, places, strict=True):
        base = query + random.standard_normal(LENGTH) * 0.02
        noise = random.standard_normal((TIES, LENGTH)) * 1e-9
        rows[where] = (base[None] + noise) * random.uniform(0.5, 30.0, (TIES, 1))
    return queries


def timed(function: Any, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def in_a_loop(numpy: Any, rows: Any, query: Any) -> int:
    best, first = -2.0, -1
    for number, row in enumerate(rows):
        cosine = numpy.dot(row, query)
        if cosine > best:
            best, first = cosine, number
    return first


def wrong_ranks(gallery: Any, queries: Any, expected: list[str]) -> int:
    return sum(gallery.nearest(query, 1)[0].identity != one for query, one in zip(queries, expected, strict=True))


def during_changes(gallery: Any, queries: Any, expected: list[str], numpy: Any, seconds: float) -> tuple[int, int, int]:
    """Wrong ranks, queries and changes while two threads add and remove others."""
    over = threading.Event()
    changes = [0, 0]

    def change(number: int) -> None:
        rows = numpy.random.default_rng(100 + number).standard_normal((50, LENGTH)).astype(numpy.float32)
        while not over.is_set():
            gallery.add_all([f"guest-{number}-{place}" for place in range(50)], rows)
            for place in range(50):
                gallery.remove(f"guest-{number}-{place}")
            changes[number] += 51
            over.wait(0.002)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    wrong = asked = 0
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends or asked == 0:
            wrong += wrong_ranks(gallery, queries, expected)
            asked += len(queries)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return wrong, asked, sum(changes)


def prices(numpy: Any, gallery: Any, rows: Any, narrow: Any) -> dict[str, Any]:
    """Milliseconds for a query, each way."""
    turns = 5 if len(rows) >= 1_000_000 else 15
    taken: dict[str, list[float]] = {"gallery": [], "numpy": [], "loop": []}
    for turn in range(turns):
        query = narrow[turn % QUERIES]
        taken["gallery"] += timed(lambda query=query: gallery.match(query), 3)
        taken["numpy"] += timed(lambda query=query: int((rows @ query).argmax()), 3)
        if turn < (1 if len(rows) >= 1_000_000 else 3):
            taken["loop"] += timed(lambda query=query: in_a_loop(numpy, rows, query), 1)
    together = statistics.median(timed(lambda: gallery.match_all(narrow), 3)) / QUERIES
    figures: dict[str, Any] = {f"{name}_ms": round(statistics.median(values), 3) for name, values in taken.items()}
    figures["gallery_together_ms"] = round(together, 3)
    return figures


def size_of(count: int, small: bool, folder: Path) -> dict[str, Any]:
    import numpy as np

    from resilient_faces.adapters.gallery import Gallery

    random = np.random.default_rng(7)
    rows = np.empty((count, LENGTH), np.float32)
    for start in range(0, count, 65_536):
        part = rows[start : start + 65_536]
        part[:] = random.standard_normal(part.shape, dtype=np.float32)
    queries = plant(np, random, rows)
    gallery = Gallery("proof", length=LENGTH, margin=0.0)
    began = time.perf_counter()
    gallery.add_all([str(number) for number in range(count)], rows)
    added = time.perf_counter() - began

    expected = exact_first(np, rows, queries)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= lengths[:, None]  # what a plain product takes: from here on the gallery's are others
    narrow = queries.astype(np.float32)
    plainly_wrong = sum(str(int((rows @ query).argmax())) != one for query, one in zip(narrow, expected, strict=True))
    figures = prices(np, gallery, rows, narrow)
    figures["add_seconds"] = round(added, 2)
    most = MOST_TIMES * figures["numpy_ms"] + MOST_MORE
    proof.check(
        figures["gallery_ms"] <= most, f"{count}: a match takes {figures['gallery_ms']} ms, more than {most:.1f}"
    )
    proof.check(figures["gallery_ms"] < figures["loop_ms"], f"{count}: a match is no faster than a Python loop")

    figures["queries"] = QUERIES
    figures["wrong_plain_float32"] = plainly_wrong
    figures["wrong"] = wrong_ranks(gallery, queries, expected)
    del rows
    wrong, asked, changes = during_changes(gallery, queries, expected, np, 1.0 if small else 5.0)
    figures["during_changes"] = {"wrong": wrong, "queries": asked, "changes": changes}
    file = folder / "proof.gallery"
    began = time.perf_counter()
    gallery.save(file)
    figures["save_seconds"] = round(time.perf_counter() - began, 2)
    figures["file_mb"] = round(file.stat().st_size / 1e6, 1)
    del gallery
    began = time.perf_counter()
    loaded = Gallery.load(file, space="proof", margin=0.0)
    figures["load_seconds"] = round(time.perf_counter() - began, 2)
    figures["wrong_after_reload"] = wrong_ranks(loaded, queries, expected)
    file.unlink()
    proof.check(figures["wrong"] == 0, f"{count}: {figures['wrong']} first ranks are others than in float64")
    proof.check(wrong == 0, f"{count}: {wrong} of {asked} first ranks were wrong during changes")
    proof.check(changes > 0, f"{count}: nothing changed meanwhile")
    proof.check(figures["wrong_after_reload"] == 0, f"{count}: wrong first ranks after reload")
    proof.check(len(loaded) == count, f"{count}: {len(loaded)} persons after reload")
    proof.check(plainly_wrong > 0, f"{count}: a plain product had no mistake, so the ties were none")
    return figures


def main() -> int:
    options = proof.parse()
    proof.need("numpy", cure="pip install 'resilient-faces[insightface]'")
    figures: dict[str, Any] = {}
    sizes = SMALL_SIZES if options.small else SIZES
    head = " ".join(f"{name:>9}" for name in ("faces", "gallery", "together", "numpy", "loop"))
    proof.say(f"{head} ms a query    first ranks wrong (float32)")
    with tempfile.TemporaryDirectory() as folder:
        for count in sizes:
            found = figures[str(count)] = size_of(count, options.small, Path(folder))
            proof.say(
                f"{count:9} {found['gallery_ms']:9.3f} {found['gallery_together_ms']:9.3f} {found['numpy_ms']:9.3f} "
                f"{found['loop_ms']:9.1f}               {found['wrong']} of {QUERIES} "
                f"({found['wrong_plain_float32']}); "
                f"during {found['during_changes']['changes']} changes {found['during_changes']['wrong']} of "
                f"{found['during_changes']['queries']}; after reload {found['wrong_after_reload']}"
            )
    return proof.finish(
        parameters={
            "processors": 1,
            "length": LENGTH,
            "ties": TIES,
            "sizes": list(sizes),
            "most": [MOST_TIMES, MOST_MORE],
        },
        figures=figures,
        packages=("numpy",),
    )


if __name__ == "__main__":
    sys.exit(main())
