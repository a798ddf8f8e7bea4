"""The gallery: exact ranks, changes that are seen whole or not at all, and a file that is whole or the old one."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from resilient_faces.adapters import gallery as module
from resilient_faces.adapters.gallery import SCHEMA, Gallery, GalleryError, Match
from resilient_faces.errors import OptionError

np = pytest.importorskip("numpy", reason="the extra `insightface` is not installed")

LENGTH = 64


def vectors(count: int, seed: int = 0, length: int = LENGTH) -> Any:
    return np.random.default_rng(seed).standard_normal((count, length)).astype(np.float32)


def filled(count: int = 50, seed: int = 0, **options: Any) -> tuple[Gallery, Any]:
    made, rows = Gallery("cards", length=LENGTH, **options), vectors(count, seed)
    made.add_all([f"person-{number}" for number in range(count)], rows)
    return made, rows


def rank_of(rows: Any, asked: Any) -> Any:
    """Row numbers, nearest first, by cosines in float64."""
    wide = rows.astype(np.float64)
    cosines = (wide * asked.astype(np.float64)).sum(axis=1) / np.linalg.norm(wide, axis=1)
    return np.argsort(-cosines, kind="stable")


def near_ties(count: int, seed: int) -> tuple[Any, Any]:
    """An embedding, and rows whose cosines with it differ by far less than float32 can tell."""
    random = np.random.default_rng(seed)
    asked = random.standard_normal(LENGTH)
    asked /= np.linalg.norm(asked)
    base = asked + random.standard_normal(LENGTH) * 0.1
    rows = base[None] + random.standard_normal((count, LENGTH)) * 1e-8
    return asked, (rows * random.uniform(0.5, 30.0, (count, 1))).astype(np.float32)


# -- whose face it is -------------------------------------------------------------------------------------------------


def test_the_nearest_person_is_found() -> None:
    """With cosine and margin; a face of any length."""
    gallery, rows = filled()
    match = gallery.match(rows[7] * 12.5)
    assert match
    assert match.identity == "person-7"
    assert match.cosine == pytest.approx(1.0, abs=1e-12)
    runner_up = gallery.nearest(rows[7], 2)[1]
    assert match.margin == pytest.approx(match.cosine - runner_up.cosine)


def test_nobody_is_near_enough() -> None:
    """Below the threshold nobody is named, and it says how near the nearest was; the threshold itself is enough."""
    gallery = Gallery("cards", length=2, threshold=0.8, margin=0.0)
    assert gallery.match([1.0, 0.0]) == Match(None, -1.0, math.inf, "empty")
    gallery.add("a", [1.0, 0.0])
    assert gallery.match([0.6, 0.8]) == Match(None, pytest.approx(0.6), math.inf, "below_threshold")
    exactly = Gallery("cards", length=2, threshold=0.6, margin=0.0)
    exactly.add("a", [1.0, 0.0])
    assert exactly.match([3.0, 4.0]).identity == "a"


def test_two_persons_about_as_near_are_nobody() -> None:
    """The margin is measured to the next person, not to the next photograph of the same one."""
    gallery = Gallery("cards", length=3, threshold=0.5, margin=0.05)
    gallery.add_all(["a", "a", "b"], [[1, 0, 0], [0.99, 0.1, 0], [0.9, 0.0, 0.44]])
    match = gallery.match([1, 0, 0.02])
    assert match.identity == "a"
    assert 0.05 < match.margin < 0.11
    close = gallery.match([0.95, 0, 0.22])
    assert (close.identity, close.reason) == (None, "too_close")
    assert gallery.remove("b") == 1
    assert gallery.match([0.95, 0, 0.22]).identity == "a"


def test_a_cosine_is_one_at_most() -> None:
    """Whatever its last bit: whoever takes the angle of it gets one."""
    rows = vectors(500, length=4)
    cosines = []
    for row in rows:
        gallery = Gallery("cards", length=4)
        gallery.add("a", row)
        cosines += [gallery.match(row * 7.3).cosine, gallery.match(row * -7.3).cosine]
    assert all(math.isfinite(math.acos(one)) for one in cosines)


def test_many_faces_are_matched_by_the_same_state() -> None:
    """One answer a face, in order; in parts too, if they are very many."""
    gallery, rows = filled(300)
    asked = vectors(40, seed=9) * 0.3 + rows[:40]
    alone = [gallery.match(one) for one in asked]
    together = gallery.match_all(asked)
    assert [(one.identity, one.reason) for one in together] == [(one.identity, one.reason) for one in alone]
    assert [one.cosine for one in together] == pytest.approx([one.cosine for one in alone], abs=1e-14)
    assert gallery.match_all(np.zeros((0, LENGTH))) == ()


def test_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of the parts that things are done in do not show."""
    gallery, rows = filled(300)
    whole = gallery.match_all(rows[:50])
    monkeypatch.setattr(module, "_SCORES", 700)
    monkeypatch.setattr(module, "_ROWS", 7)
    again, _ = filled(300)
    assert again.match_all(rows[:50]) == whole


def test_rank_1_is_that_of_float64() -> None:
    """Among cosines that float32 cannot tell apart, in rows of different lengths: a plain product names others."""
    plainly_wrong = 0
    for seed in range(20):
        asked, rows = near_ties(200, seed)
        gallery = Gallery("cards", length=LENGTH, margin=0.0)
        gallery.add_all([str(number) for number in range(len(rows))], rows)
        expected = rank_of(rows, asked)
        assert [one.identity for one in gallery.nearest(asked, 5)] == [str(number) for number in expected[:5]]
        assert gallery.match_all(np.stack([asked, asked]))[1].identity == str(expected[0])
        scales = (1.0 / np.linalg.norm(rows, axis=1)).astype(np.float32)
        plainly_wrong += int(((rows @ asked.astype(np.float32)) * scales).argmax()) != expected[0]
    assert plainly_wrong > 10  # else there was nothing to tell apart


def test_of_equal_rows_the_first_counts() -> None:
    """The same embedding under many names, also at the ends of blocks: whoever was enrolled first, always."""
    gallery = Gallery("cards", length=LENGTH, margin=0.0)
    row = vectors(1)[0]
    gallery.add_all([f"p{number}" for number in range(37)], np.repeat(row[None], 37, axis=0))
    assert {gallery.match(row).identity for _ in range(20)} == {"p0"}
    assert [one.identity for one in gallery.nearest(row, 3)] == ["p0", "p1", "p2"]


# -- changes ----------------------------------------------------------------------------------------------------------


def test_persons_come_and_go() -> None:
    """Counts, membership, order of enrolment; who is removed is not found again, and may come back."""
    gallery, rows = filled(10)
    gallery.add("person-3", rows[3] + 0.01)
    assert (len(gallery), gallery.embeddings) == (10, 11)
    assert gallery.remove("person-3") == 2
    assert gallery.remove("person-3") == 0
    assert ("person-3" in gallery, "person-4" in gallery, len(gallery), gallery.embeddings) == (False, True, 9, 9)
    assert gallery.match(rows[3]).identity is None
    gallery.add("person-3", rows[3])
    assert gallery.match(rows[3]).identity == "person-3"
    assert gallery.identities()[-1] == "person-3"
    for identity in gallery.identities():
        gallery.remove(identity)
    assert (len(gallery), gallery.embeddings, gallery.match(rows[0]).reason) == (0, 0, "empty")


def test_removed_embeddings_leave_memory() -> None:
    """At the latest with the next compaction, which many removals bring about by themselves."""
    gallery, rows = filled(100)
    gallery.remove("person-0")
    assert gallery._state.count == 100
    gallery.compact()
    assert (gallery._state.count, len(gallery._state.rows), "person-0" in gallery._state.names) == (99, 99, False)
    for number in range(1, 40):
        gallery.remove(f"person-{number}")
    assert gallery._state.count < 100
    assert "person-1" not in gallery._state.names
    assert [gallery.match(one).identity for one in rows[40:]] == [f"person-{number}" for number in range(40, 100)]


WRONG: dict[str, tuple[list[str], Any, str]] = {
    "shape": (["a"], np.ones((1, 3)), "shape \\(64,\\); got \\(3,\\)"),
    "flat": (["a"], np.ones(LENGTH), "shape"),
    "nan": (["a"], np.full((1, LENGTH), np.nan), "finite"),
    "infinite": (["a"], np.full((1, LENGTH), np.inf), "finite"),
    "too large": (["a"], np.full((1, LENGTH), 1e300), "finite"),
    "words": (["a"], [["GEHEIM"] * LENGTH], "array of real numbers; got something else"),
    "digits": (["a"], [["1"] * LENGTH], "array of real numbers"),
    "complex": (["a"], np.full((1, LENGTH), 1j), "array of real numbers"),
    "objects": (["a"], [[object()] * LENGTH], "array of real numbers"),
    "yes and no": (["a"], np.ones((1, LENGTH), bool), "array of real numbers"),
    "ragged": (["a"], [[1.0], [1.0, 2.0]], "array of real numbers"),
    "zero": (["a", "b"], np.zeros((2, LENGTH)), "length from 1e-06"),
    "fewer names": (["a"], np.ones((2, LENGTH)), "identities must be as many as embeddings \\(2\\); got 1"),
    "no name": ([""], np.ones((1, LENGTH)), "texts that are not empty"),
    "no text": ([7], np.ones((1, LENGTH)), "texts"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_enrolled_changes_nothing(wrong: str) -> None:
    """All rows or none."""
    identities, embeddings, said = WRONG[wrong]
    gallery, _ = filled(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's own words are no answer
        with pytest.raises(OptionError, match=said) as caught:
            gallery.add_all(identities, embeddings)
        assert (len(gallery), gallery.embeddings, "a" in gallery) == (5, 5, False)
        assert "GEHEIM" not in str(caught.value)
        if "name" not in wrong and wrong != "no text":
            for ask in (gallery.match, gallery.nearest, lambda one: gallery.add("a", one)):
                with pytest.raises(OptionError) as caught:
                    ask(embeddings if wrong == "ragged" else embeddings[0])
                assert "GEHEIM" not in str(caught.value)
                assert caught.value.__cause__ is None


def test_readers_see_each_change_whole() -> None:
    """Persons of three embeddings are added and removed while others match: never a part of one, never a wrong rank."""
    gallery, rows = filled(40)
    extra = np.eye(LENGTH, dtype=np.float32)[:3]
    wrong: list[str] = []
    seen = {1: 0, 0: 0}
    over = threading.Event()

    def read(offset: int) -> None:
        turn = offset
        while not over.is_set():
            turn += 1
            number = turn % 40
            found = gallery.match_all(np.concatenate([rows[number][None], extra]))
            if found[0].identity != f"person-{number}":
                wrong.append("rank")
            there = {one.identity == "guest" and one.cosine > 0.999 for one in found[1:]}
            if len(there) != 1:
                wrong.append("half a change")
            seen[int(there.pop())] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=read, args=(offset,)) for offset in range(3)]
    try:
        for thread in threads:
            thread.start()
        ends = time.monotonic() + 1.0
        changes = 0
        while time.monotonic() < ends or (min(seen.values()) == 0 and time.monotonic() < ends + 10.0):
            gallery.add_all(["guest"] * 3, extra)
            gallery.add_all([f"other-{changes}-{number}" for number in range(20)], vectors(20, seed=1000 + changes))
            gallery.remove("guest")
            for number in range(20):
                gallery.remove(f"other-{changes}-{number}")
            changes += 1
    finally:
        over.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join(10.0)
    assert wrong == []
    assert min(seen.values()) > 0
    assert (len(gallery), gallery.embeddings) == (40, 40)


def test_writers_do_not_lose_each_others_changes() -> None:
    """Several threads enrol and remove at once; the sum is right, and each person has their own embedding."""
    gallery = Gallery("cards", length=LENGTH)

    def work(number: int) -> None:
        for turn, row in enumerate(vectors(60, seed=number)):
            gallery.add(f"{number}-{turn}", row)
            if turn % 3 == 0:
                gallery.remove(f"{number}-{turn}")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20.0)
    finally:
        sys.setswitchinterval(interval)
    assert (len(gallery), gallery.embeddings) == (240, 240)
    for number in range(6):
        for turn, row in enumerate(vectors(60, seed=number)):
            assert (gallery.match(row).identity == f"{number}-{turn}") is (turn % 3 != 0)


def test_a_writer_waits_for_the_one_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while another has looked where its rows go, and has not put them there."""
    gallery = Gallery("cards", length=LENGTH)
    one, two = vectors(2, seed=3)
    second = threading.Thread(target=gallery.add, args=("two", two))
    look = Gallery._room_for

    def slow(self: Gallery, more: int) -> Any:
        state = look(self, more)
        if second.ident is None:
            second.start()
            second.join(0.2)
        return state

    monkeypatch.setattr(Gallery, "_room_for", slow)
    gallery.add("one", one)
    second.join(20.0)
    assert (len(gallery), gallery.embeddings) == (2, 2)
    assert [gallery.match(row).identity for row in (one, two)] == ["one", "two"]


# -- the file ---------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """The same answers to the last bit, near ties included; removed persons are not in the file."""
    asked, rows = near_ties(100, 3)
    gallery = Gallery("cards", length=LENGTH, margin=0.0)
    gallery.add_all([f"né-{number}" for number in range(100)], rows)
    gallery.add("né-0", rows[1])
    for number in range(5, 15):
        gallery.remove(f"né-{number}")
    file = tmp_path / "students.gallery"
    gallery.save(file)
    loaded = Gallery.load(file, space="cards", margin=0.0)
    assert loaded.identities() == gallery.identities()
    assert (len(loaded), loaded.embeddings) == (90, 91)
    assert loaded.nearest(asked, 90) == gallery.nearest(asked, 90)
    assert loaded.length == LENGTH
    assert "né-7" not in loaded
    assert rows[7].tobytes() not in file.read_bytes()
    assert rows[17].tobytes() in file.read_bytes()
    loaded.add("new", vectors(1)[0])
    assert loaded.match(vectors(1)[0]).identity == "new"


def test_an_empty_gallery_is_saved(tmp_path: Path) -> None:
    """And can be filled after it was loaded."""
    Gallery("cards", length=LENGTH).save(tmp_path / "empty")
    loaded = Gallery.load(tmp_path / "empty", space="cards")
    assert loaded.match(np.ones(LENGTH)).reason == "empty"
    loaded.add("a", np.ones(LENGTH))
    assert loaded.match(np.ones(LENGTH)).identity == "a"


def test_only_the_user_can_read_the_file(tmp_path: Path) -> None:
    """Faces are nobody else's business; nothing else is left beside the file."""
    filled()[0].save(tmp_path / "g")
    assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["g"]


def _bytes(tmp_path: Path) -> bytes:
    filled()[0].save(tmp_path / "good")
    return (tmp_path / "good").read_bytes()


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    """A bit that is wrong anywhere, an end that is missing, bytes that are too many: an error, and the file stays."""
    good = _bytes(tmp_path)
    random = np.random.default_rng(5)
    places = [*range(60), *map(int, random.integers(0, len(good), 100)), len(good) - 1]
    damaged = [good[:at] + bytes([good[at] ^ 1 << int(random.integers(8))]) + good[at + 1 :] for at in places]
    damaged += [good[:at] for at in (0, 5, 30, 40, len(good) // 2, len(good) - 32, len(good) - 1)]
    damaged += [good + b"x", b"\0" * len(good), b"<html>", good[100:]]
    file = tmp_path / "damaged"
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(
            GalleryError, match=r"is damaged: .*\. Put a backup in its place, or enrol again\."
        ) as caught:
            Gallery.load(file, space="cards")
        assert caught.value.reason == "damaged"
        assert file.read_bytes() == data


def _with_header(good: bytes, **changes: object) -> bytes:
    """The file with another header and a right checksum: what no accident makes."""
    import hashlib

    magic, rest = good[: len(module._MAGIC)], good[len(module._MAGIC) :]
    (long,) = struct.unpack("<Q", rest[:8])
    header = {**json.loads(rest[8 : 8 + long]), **changes}
    text = json.dumps(header).replace('"["', "[" * 100_000).encode()  # nested deeper than Python reads
    data = magic + struct.pack("<Q", len(text)) + text + rest[8 + long : -32]
    return data + hashlib.sha256(data).digest()


HEADERS: dict[str, tuple[dict[str, object], str, str]] = {
    "newer": ({"schema": SCHEMA + 1, "length": "?"}, "newer", "version 2, and this is version 1: upgrade"),
    "space": ({"space": "other"}, "space", "cannot be compared.*Enrol the persons again"),
    "rows": ({"embeddings": 49}, "damaged", "another length than its header says"),
    "length": ({"length": 0}, "damaged", "header cannot be read"),
    "names": ({"identities": ["a"]}, "damaged", "embeddings of nobody"),
    "ghosts": ({"identities": [str(number) for number in range(51)]}, "damaged", "persons without an embedding"),
    "one text": ({"identities": "".join(map(chr, range(97, 147)))}, "damaged", "header cannot be read"),
    "no name": ({"identities": ["", *map(str, range(49))]}, "damaged", "header cannot be read"),
    "older": ({"schema": 0}, "damaged", "header cannot be read"),
    "deep": ({"more": "["}, "damaged", "header cannot be read"),
    "twice": ({"identities": ["a"] * 50}, "damaged", "header cannot be read"),
    "schema": ({"schema": None}, "damaged", "header cannot be read"),
}


@pytest.mark.parametrize("change", HEADERS)
def test_a_file_that_does_not_fit_is_refused(change: str, tmp_path: Path) -> None:
    """A later version, another recogniser's embeddings, a header that contradicts the rest."""
    changes, reason, said = HEADERS[change]
    file = tmp_path / "g"
    file.write_bytes(_with_header(_bytes(tmp_path), **changes))
    with pytest.raises(GalleryError, match=said) as caught:
        Gallery.load(file, space="cards")
    assert (caught.value.reason, caught.value.fault.code) == (reason, f"gallery.{reason}")
    assert not caught.value.fault.rule.retried


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """Missing is not damaged: a service may begin with an empty gallery."""
    with pytest.raises(GalleryError) as caught:
        Gallery.load(tmp_path / "nowhere", space="cards")
    assert caught.value.reason == "missing"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any step; and nothing half-written stays."""
    file = tmp_path / "g"
    old, _ = filled(5)
    old.save(file)
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        filled(9)[0].save(file)
    assert file.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["g"]


def test_what_is_on_the_disk_is_synchronised_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is on the disk before it takes the old one's name, and the name is afterwards."""
    done: list[str] = []
    synchronise, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        synchronise(descriptor)

    def replace(*args: Any, **kwargs: Any) -> None:
        done.append("rename")
        rename(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    filled()[0].save(tmp_path / "g")
    assert done == ["file", "rename", "folder"]


def test_leftovers_go_after_an_hour(tmp_path: Path) -> None:
    """Of processes that were killed in the middle of a save; one that may still be written stays."""
    old, young, other = tmp_path / ".g.abc.part", tmp_path / ".g.def.part", tmp_path / ".h.abc.part"
    for file in (old, young, other):
        file.write_bytes(b"half")
    hours_ago = time.time() - 7200.0
    for file in (old, other):
        os.utime(file, (hours_ago, hours_ago))
    filled()[0].save(tmp_path / "g")
    assert {one.name for one in tmp_path.iterdir()} == {"g", young.name, other.name}


SAVING = """
import sys
import numpy as np
from resilient_faces.adapters.gallery import Gallery
file, count = sys.argv[1], 0
rows = np.random.default_rng(1).standard_normal((3000, 64)).astype(np.float32)
while True:
    gallery = Gallery("cards", length=64)
    gallery.add_all([f"{count}-{number}" for number in range(len(rows))], rows)
    gallery.save(file)
    count += 1
    print(count, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_a_killed_save_leaves_a_whole_file(tmp_path: Path) -> None:
    """Killed at some moment in the middle of endless saving: the file is the one or the other, and whole."""
    file = tmp_path / "g"
    for wait in (0.0, 0.007, 0.013):
        with subprocess.Popen([sys.executable, "-c", SAVING, str(file)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(3):
                process.stdout.readline()
            time.sleep(wait)
            process.kill()
        names = Gallery.load(file, space="cards").identities()
        assert len(names) == 3000
        assert len({name.partition("-")[0] for name in names}) == 1


def test_saving_while_it_changes(tmp_path: Path) -> None:
    """A save is one moment of the gallery; pairs are in it whole or not at all."""
    gallery, _ = filled(20)
    over = threading.Event()
    pair = np.eye(LENGTH, dtype=np.float32)[:2]

    def change() -> None:
        while not over.is_set():
            gallery.add_all(["left", "right"], pair)
            time.sleep(0.001)  # gives the interpreter to the one who saves
            gallery.remove("left")
            gallery.remove("right")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            gallery.save(tmp_path / "g")
            loaded = Gallery.load(tmp_path / "g", space="cards")
            assert "left" not in loaded or "right" in loaded
            assert loaded.embeddings == len(loaded)
    finally:
        over.set()
        thread.join(10.0)


# -- privacy and options ----------------------------------------------------------------------------------------------


def test_identities_stay_out_of_sight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No `repr`, log or error text has a name or a number of an embedding; the members of a match do."""
    gallery = Gallery("cards", length=LENGTH)
    with caplog.at_level(logging.DEBUG):
        gallery.add_all(["GEHEIM-1", "GEHEIM-2"], vectors(2))
        match, nearest = gallery.match(vectors(2)[0]), gallery.nearest(vectors(2)[0])
        gallery.save(tmp_path / "g")
        texts = [repr(gallery), repr(match), repr(nearest), str(match), f"{nearest}"]
        for wrong in (["GEHEIM-3", ""], ["GEHEIM-3"] * 3, "GEHEIM"):
            with pytest.raises(OptionError) as caught:
                gallery.add_all(wrong, vectors(2))
            texts.append(str(caught.value))
        shutil.copy(tmp_path / "g", tmp_path / "cut")
        os.truncate(tmp_path / "cut", 200)
        with pytest.raises(GalleryError) as damaged:
            Gallery.load(tmp_path / "cut", space="cards")
        texts.append(str(damaged.value))
    assert match.identity == "GEHEIM-1"
    assert "GEHEIM" not in "".join(texts) + caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"space": ""}, r"Gallery\.space must be a recogniser's space"),
        ({"length": 0}, r"Gallery\.length must be 1 or more"),
        ({"threshold": 1.5}, r"Gallery\.threshold must be"),
        ({"margin": -0.1}, r"Gallery\.margin must be"),
        ({"treshold": 0.5}, r"no option 'treshold'. Did you mean threshold\?"),
        ({"threshold": 2, "margin": 3}, r"(?s)threshold.*margin"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    """All of them in one message."""
    with pytest.raises(OptionError, match=said):
        Gallery(**{"space": "cards", **options})
