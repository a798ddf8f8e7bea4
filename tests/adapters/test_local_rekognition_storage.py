"""What the endpoint keeps: it survives a killed process, is one process's at a time, and is nobody else's to read."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy", reason="the extra `demo` is not installed")

import numpy as np

from resilient_faces.adapters.local_rekognition.storage import (
    FILE,
    SCHEMA,
    DataDirectoryError,
    NewFace,
    Session,
    Storage,
)

BOX = {"Width": 0.5, "Height": 0.5, "Left": 0.25, "Top": 0.25}
OTHER_BOX = {**BOX, "Left": 0.1}


def opened(directory: Path | None, space: str = "s") -> Storage:
    return Storage(directory, space=space, version="7.0")


def unit(*values: float) -> Any:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def records(stored: list[dict[str, Any]]) -> dict[str, Any]:
    return {"FaceRecords": stored}


def add(storage: Storage, *vectors: Any, name: str = "c", image: str = "i", external: str | None = "e") -> list[str]:
    collection = storage.collection(name)
    assert collection is not None
    boxes = [{**BOX, "Top": place / 100} for place in range(len(vectors))]
    faces = [NewFace(box, 90.0, vector) for box, vector in zip(boxes, vectors, strict=True)]
    said, _ = storage.add_faces(collection, image, external, faces, asked="100/AUTO", answer=records)
    return [face["FaceId"] for face in said["FaceRecords"]]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    made = opened(tmp_path / "data")
    made.create_collection("c", 1.0)
    yield made
    made.close()


def test_what_was_stored_is_there_after_reopening(tmp_path: Path) -> None:
    """Collections, faces with embeddings, answers for repetitions, sessions."""
    directory = tmp_path / "made" / "here"
    first = opened(directory)
    first.create_collection("c", 12.5)
    (face,) = add(first, unit(1, 0))
    first.add_session(Session("s1", 5.0, "{}", "CREATED"), "token", forget_before=0.0)
    first.close()
    again = opened(directory)
    collection = again.collection("c")
    assert collection is not None
    assert (collection.created, again.count(collection)) == (12.5, 1)
    ((cosine, found),) = again.search(collection, unit(1, 0), most=5, alike=lambda _: True)
    assert (found["FaceId"], cosine) == (face, pytest.approx(1))
    assert again.indexed(collection, "i", "e", "100/AUTO") == {"FaceRecords": [found]}
    assert again.session("s1") == Session("s1", 5.0, "{}", "CREATED")
    again.close()


def test_one_process_a_directory(tmp_path: Path) -> None:
    """A second one is told so, in this process as in another; after a kill -9 the directory is free."""
    program = (
        "import sys; from pathlib import Path;"
        "from resilient_faces.adapters.local_rekognition.storage import Storage;"
        "s = Storage(Path(sys.argv[1]), space='s', version='7.0'); s.create_collection('c', 1.0);"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    # It ends with its input at the latest, so that a failure here is not waited for.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for _ in range(2):
            with pytest.raises(DataDirectoryError, match="in use by another process"):
                opened(tmp_path)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(10)
    mine = opened(tmp_path)
    assert mine.collection("c") is not None
    with pytest.raises(DataDirectoryError, match="in use"):
        opened(tmp_path)
    again = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "in use by another process" in again.stderr  # looking from inside did not take the lock away
    mine.close()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.other_platform
def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """A directory that is made is its user's alone; the files are, wherever they are."""
    mode = os.umask(0)
    try:
        (tmp_path / "open").mkdir(mode=0o777)
        (tmp_path / "open" / FILE).touch(mode=0o666)
        for name in ("made", "open"):
            kept = opened(tmp_path / name)
            kept.create_collection("c", 1.0)
            files = list((tmp_path / name).iterdir())
            assert len(files) >= 2
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
            kept.close()
    finally:
        os.umask(mode)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700


@pytest.mark.parametrize("whole", [False, True], ids=["faces", "collection"])
def test_what_is_deleted_is_in_no_file(tmp_path: Path, whole: bool) -> None:
    """While the endpoint runs, and so after a kill as well: neither in the database nor in its log."""
    planted = np.frombuffer(b"PLANTEDEMBEDDING" * 8, "float32")
    storage = Storage(tmp_path, space="x", version="7.0")
    storage.create_collection("c", 0.0)
    collection = storage.collection("c")
    assert collection is not None
    said, _ = storage.add_faces(
        collection,
        "hash",
        "planted-name",
        [NewFace({"Left": 0.1}, 99.0, planted)],
        asked="1",
        answer=lambda faces: {"faces": faces},
    )

    def written() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"PLANTEDEMBEDDING" in written()
    if whole:
        storage.delete_collection("c")
    else:
        storage.delete_faces(collection, [said["faces"][0]["FaceId"]])
    assert b"PLANTEDEMBEDDING" not in written()
    assert b"planted-name" not in written()
    storage.close()


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    """What a newer version wrote is not touched."""
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(DataDirectoryError, match="newer version"):
        opened(tmp_path)


def test_no_database_is_told(tmp_path: Path) -> None:
    """A damaged file is an error that says what to do."""
    (tmp_path / FILE).write_bytes(b"no database" * 500)
    with pytest.raises(DataDirectoryError, match="damaged"):
        opened(tmp_path)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """A file in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="cannot be made"):
        opened(tmp_path / "file")


def test_embeddings_of_another_engine_are_not_mixed(tmp_path: Path) -> None:
    """A directory with faces keeps its engine; an empty one may change it."""
    first = opened(tmp_path, "one")
    first.create_collection("c", 1.0)
    first.close()
    second = opened(tmp_path, "two")
    add(second, unit(1, 0))
    second.close()
    with pytest.raises(DataDirectoryError, match=r"engine space two.*this engine's is one"):
        opened(tmp_path, "one")


def test_what_another_engine_did_not_see_is_forgotten(tmp_path: Path) -> None:
    """A picture without a face leaves an answer and no face: the next engine looks for itself."""
    for space, remembered in (("blind", None), ("blind", []), ("sees", None)):
        storage = opened(tmp_path, space)
        storage.create_collection("c", 1.0)
        collection = storage.collection("c")
        assert collection is not None
        answer = storage.indexed(collection, "i", "e", "")
        assert (answer and answer["FaceRecords"]) == remembered
        storage.add_faces(collection, "i", "e", [], asked="", answer=lambda _: {"FaceRecords": []})
        storage.close()


def test_a_collection_made_again_is_another(storage: Storage) -> None:
    """Faces that were on their way to the deleted one do not end up in the new one."""
    old = storage.collection("c")
    assert old is not None
    add(storage, unit(1, 0))
    assert storage.delete_collection("c")
    assert not storage.delete_collection("c")
    storage.create_collection("c", 2.0)
    with pytest.raises(KeyError):
        storage.add_faces(old, "i", "e", [NewFace(BOX, 90.0, unit(1, 0))], asked="", answer=records)
    new = storage.collection("c")
    assert new is not None
    assert storage.count(new) == 0


def test_search_follows_adding_and_deleting(storage: Storage) -> None:
    """Memory and disk say the same after every change."""
    collection = storage.collection("c")
    assert collection is not None

    def found() -> list[str]:
        hits = storage.search(collection, unit(1, 0), most=100, alike=lambda cosine: cosine > 0.5)
        return [face["FaceId"] for _, face in hits]

    assert found() == []
    near = add(storage, unit(1, 0.1), unit(1, 0.2), unit(0, 1), image="i1")
    assert found() == near[:2]
    many = [add(storage, unit(1, 0.3 + number / 100), image=f"more{number}")[0] for number in range(40)]
    assert found() == [*near[:2], *many[:40]]
    assert storage.delete_faces(collection, [near[0], many[5], "unknown"]) == {near[0], many[5]}
    assert found() == [near[1], *many[:5], *many[6:]]
    assert storage.delete_faces(collection, storage_ids(storage)) == {near[1], near[2], *many} - {many[5]}
    assert found() == []
    again = add(storage, unit(1, 0), image="last")
    assert found() == again


def storage_ids(storage: Storage) -> list[str]:
    collection = storage.collection("c")
    assert collection is not None
    return [face["FaceId"] for _, face in storage.faces(collection, 0, 10_000, None)]


def test_a_failed_transaction_leaves_nothing(storage: Storage) -> None:
    """Neither on disk nor in memory."""
    collection = storage.collection("c")
    assert collection is not None
    storage.search(collection, unit(1, 0), most=1, alike=lambda _: True)  # in memory from here on

    def breaks(stored: list[dict[str, Any]]) -> dict[str, Any]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        storage.add_faces(collection, "i", "e", [NewFace(BOX, 90.0, unit(1, 0))], asked="", answer=breaks)
    assert storage.count(collection) == 0
    assert storage.search(collection, unit(1, 0), most=1, alike=lambda _: True) == []
    (face,) = add(storage, unit(0, 1))  # gets the number that the failed one would have had
    found = storage.search(collection, unit(1, 0), most=5, alike=lambda _: True)
    assert [(cosine, one["FaceId"]) for cosine, one in found] == [(0.0, face)]


def test_faces_are_told_apart_by_their_place(storage: Storage) -> None:
    """The same image and id at another place is another face; without an id every call is."""
    collection = storage.collection("c")
    assert collection is not None

    def store(box: dict[str, float], external: str | None) -> int:
        face = NewFace(box, 90.0, unit(1, 0))
        return storage.add_faces(collection, "i", external, [face], asked="", answer=records)[1]

    assert [store(BOX, "e"), store(BOX, "e"), store(OTHER_BOX, "e")] == [1, 0, 1]
    assert [store(BOX, None), store(BOX, None)] == [1, 1]


def test_a_session_moves_once(storage: Storage) -> None:
    """Of two that move a session on from the same state, one does."""
    session = Session("s1", 5.0, "{}", "CREATED")
    storage.add_session(session, None, forget_before=0.0)
    done = Session("s1", 5.0, "{}", "SUCCEEDED", 99.0, b"picture", BOX)
    assert storage.move_session(done, "CREATED")
    assert not storage.move_session(Session("s1", 5.0, "{}", "FAILED"), "CREATED")
    assert storage.session("s1") == done


ACKNOWLEDGES = """
import json, sys, threading
from pathlib import Path
import numpy as np
from resilient_faces.adapters.local_rekognition.storage import NewFace, Storage

storage = Storage(Path(sys.argv[1]), space="s", version="7.0")
storage.create_collection("c", 1.0)
collection = storage.collection("c")
lock = threading.Lock()

def index(worker):
    number = 0
    while True:
        number += 1
        face = NewFace({"Left": 0.1}, 90.0, np.array([1, 0], np.float32))
        image = f"{sys.argv[2]}/{worker}/{number}"
        said, _ = storage.add_faces(collection, image, "e", [face], asked="", answer=lambda faces: {"F": faces})
        with lock:
            print(said["F"][0]["FaceId"], flush=True)

for worker in range(4):
    threading.Thread(target=index, args=(worker,), daemon=True).start()
threading.Event().wait()
"""


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Killed with -9 while four threads store: every face that was acknowledged is there, three times over."""
    acknowledged: set[str] = set()
    for life in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", ACKNOWLEDGES, str(tmp_path), str(life)], stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            for _ in range(50 + 37 * life):
                acknowledged.add(child.stdout.readline().strip())
            os.kill(child.pid, signal.SIGKILL)
            rest = child.stdout.read().splitlines()
        acknowledged |= {line for line in rest if len(line) == 36}  # a line that the kill cut through is no promise
    assert "" not in acknowledged
    kept = opened(tmp_path)
    assert acknowledged <= set(storage_ids(kept))
    assert len(acknowledged) > 200
    kept.close()


def test_the_answer_is_what_is_kept(storage: Storage) -> None:
    """A repetition is given the words of the first answer."""
    collection = storage.collection("c")
    assert collection is not None
    said, _ = storage.add_faces(
        collection, "i", "e", [NewFace(BOX, 90.0, unit(1, 0))], asked="x", answer=lambda faces: {"Faces": faces, "n": 1}
    )
    assert storage.indexed(collection, "i", "e", "x") == json.loads(json.dumps(said))
    assert storage.indexed(collection, "i", "e", "y") is None
