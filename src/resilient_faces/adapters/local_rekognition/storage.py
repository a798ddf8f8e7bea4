"""What the endpoint keeps: collections, faces with their embeddings, liveness sessions.

One SQLite file in the data directory, written ahead and synchronised before an answer leaves, so what was acknowledged
survives a killed process and a power cut. One process a directory: the file is locked for as long as it is open, and
the system frees the lock when the process ends, in whatever way. Without a directory everything is in memory.

Embeddings and pictures of faces are in this directory and nowhere else; a directory made here is closed to other
users, and the file always is.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resilient_faces.adapters._faces import Image, load
from resilient_faces.adapters.local_rekognition.answers import Answer
from resilient_faces.errors import ResilienceError

FILE: Final = "rekognition.sqlite3"
SCHEMA: Final = 1
_CHUNK: Final = 500  # values in one statement

_TABLES: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created REAL NOT NULL
);
CREATE TABLE faces (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
    face_id TEXT NOT NULL UNIQUE, image_id TEXT NOT NULL, external_id TEXT,
    image TEXT NOT NULL, box TEXT NOT NULL, confidence REAL NOT NULL, embedding BLOB NOT NULL
);
CREATE INDEX faces_of_collection ON faces(collection, number);
CREATE UNIQUE INDEX no_second_face ON faces(collection, image, external_id, box);
CREATE TABLE indexed (
    collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
    image TEXT NOT NULL, external_id TEXT NOT NULL, asked TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (collection, image, external_id, asked)
) WITHOUT ROWID;
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created REAL NOT NULL, token TEXT UNIQUE, asked TEXT NOT NULL,
    status TEXT NOT NULL, confidence REAL, image BLOB, box TEXT
);
"""
# A face without an external id has NULL there, which no unique index compares: nothing tells its repetitions apart.


class DataDirectoryError(ResilienceError):
    """The data directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection. A collection that is deleted and made again has another number."""

    number: int
    name: str
    created: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class NewFace:
    """A face to be stored: its box as shares of the image, and its embedding of length 1."""

    box: Mapping[str, float]
    confidence: float  # percent
    embedding: Image


@dataclass(frozen=True, slots=True)
class Session:
    """One liveness session as it is stored; that time has passed it by is the reader's to see."""

    id: str
    created: float  # seconds since the epoch
    asked: str
    status: str
    confidence: float | None = None
    image: bytes | None = None
    box: Mapping[str, float] | None = None


class _Vectors:
    """Embeddings of one collection as one matrix that grows. A snapshot stays what it was."""

    def __init__(self) -> None:
        self._numpy = load("numpy")
        self._rows: Any = None
        self._numbers: Any = None
        self._count = 0

    def add(self, number: int, row: Image) -> None:
        numpy = self._numpy
        if self._rows is None:
            self._rows = numpy.empty((16, len(row)), numpy.float32)
            self._numbers = numpy.empty(16, numpy.int64)
        if self._count == len(self._rows):
            self._rows = numpy.concatenate([self._rows, numpy.empty_like(self._rows)])
            self._numbers = numpy.concatenate([self._numbers, numpy.empty_like(self._numbers)])
        self._rows[self._count], self._numbers[self._count] = row, number
        self._count += 1

    def remove(self, numbers: Sequence[int]) -> None:
        if self._rows is None:
            return
        kept = ~self._numpy.isin(self._numbers[: self._count], numbers)
        self._rows, self._numbers = self._rows[: self._count][kept], self._numbers[: self._count][kept]
        self._count = len(self._rows)
        if self._count == 0:
            self._rows = None

    def snapshot(self) -> tuple[Any, Any] | None:
        return None if self._rows is None else (self._rows[: self._count], self._numbers[: self._count])


class Storage:
    """All that the endpoint keeps. Every method is one transaction; what it returned from is on disk.

    Args:
        directory: Where; it is made if it is absent. None keeps everything in memory.
        space: The engine's space of embeddings. A directory holds embeddings of one space.
        version: FaceModelVersion, which each face carries.

    Raises:
        DataDirectoryError: Another process has the directory, its file is damaged or of a newer version, or it holds
            embeddings of another engine.
    """

    def __init__(self, directory: Path | None, *, space: str, version: str) -> None:
        self._lock = threading.RLock()
        self._version = version
        self._vectors: dict[int, _Vectors] = {}
        self._where = "memory" if directory is None else str(directory)
        try:
            self._db = sqlite3.connect(
                ":memory:" if directory is None else _private_file(directory),
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
        except OSError as error:
            raise DataDirectoryError(
                f"The data directory {directory} cannot be made or written ({error.strerror}). "
                "Name another, or give yourself the right to write there."
            ) from error
        try:
            self._open(space)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Give the directory back."""
        with self._lock:
            self._db.close()

    # -- collections ----------------------------------------------------------------------------------------------

    def create_collection(self, name: str, now: float) -> bool:
        """Make a collection; false if it is there already."""
        with self._writing() as db:
            done = db.execute("INSERT OR IGNORE INTO collections(name, created) VALUES (?, ?)", (name, now))
            return done.rowcount == 1

    def delete_collection(self, name: str) -> bool:
        """Delete a collection with its faces; false if it is not there."""
        with self._writing() as db:
            found = self.collection(name)
            if found is None:
                return False
            db.execute("DELETE FROM collections WHERE id = ?", (found.number,))
            self._vectors.pop(found.number, None)
        self._empty_log()
        return True

    def collection(self, name: str) -> Collection | None:
        """Find a collection by its name."""
        with self._lock:
            row = self._db.execute("SELECT id, name, created FROM collections WHERE name = ?", (name,)).fetchone()
        return None if row is None else Collection(*row)

    def collections(self, after: int, most: int) -> list[Collection]:
        """Collections in the order of their making, from behind a number on."""
        query = "SELECT id, name, created FROM collections WHERE id > ? ORDER BY id LIMIT ?"
        with self._lock:
            return [Collection(*row) for row in self._db.execute(query, (after, most))]

    def count(self, collection: Collection) -> int:
        """How many faces a collection has."""
        query = "SELECT count(*) FROM faces WHERE collection = ?"
        with self._lock:
            return int(self._db.execute(query, (collection.number,)).fetchone()[0])

    # -- faces ----------------------------------------------------------------------------------------------------

    def indexed(self, collection: Collection, image: str, external: str, asked: str) -> Answer | None:
        """The answer that this image with this external id was given for the same question."""
        query = "SELECT answer FROM indexed WHERE collection = ? AND image = ? AND external_id = ? AND asked = ?"
        with self._lock:
            row = self._db.execute(query, (collection.number, image, external, asked)).fetchone()
        return None if row is None else json.loads(row[0])

    def add_faces(
        self,
        collection: Collection,
        image: str,
        external: str | None,
        faces: Sequence[NewFace],
        *,
        asked: str,
        answer: Callable[[list[Answer]], Answer],
    ) -> tuple[Answer, int]:
        """Store the faces of one image, and the answer for repetitions of the same question.

        A face that is stored already, by image, external id and place, is that face and no second one.

        Args:
            collection: Where to.
            image: Hash of the image's bytes.
            external: ExternalImageId; without one nothing tells a repetition.
            faces: What was found.
            asked: The parameters that decide what is stored.
            answer: Makes the answer from the stored faces, in the order of `faces`.

        Returns:
            The answer, and how many faces are new.

        Raises:
            KeyError: The collection was deleted meanwhile.
        """
        image_id = str(uuid.uuid4())
        new = 0
        with self._writing() as db:
            if db.execute("SELECT 1 FROM collections WHERE id = ?", (collection.number,)).fetchone() is None:
                raise KeyError(collection.name)
            stored = []
            for face in faces:
                box = json.dumps(face.box)
                face_id = str(uuid.uuid4())
                done = db.execute(
                    "INSERT OR IGNORE INTO faces(collection, face_id, image_id, external_id, image, box, confidence, "
                    "embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (collection.number, face_id, image_id, external, image, box, face.confidence,
                     face.embedding.tobytes()),
                )  # fmt: skip
                if done.rowcount == 1:
                    new += 1
                    if collection.number in self._vectors:
                        self._vectors[collection.number].add(int(done.lastrowid or 0), face.embedding)
                where = "collection = ? AND image = ? AND external_id IS ? AND box = ? ORDER BY number DESC LIMIT 1"
                values = (collection.number, image, external, box)
                stored.append(self._face(db.execute(f"{_FACES} WHERE {where}", values).fetchone()))
            said = answer(stored)
            if external is not None:
                db.execute(
                    "INSERT OR REPLACE INTO indexed VALUES (?, ?, ?, ?, ?)",
                    (collection.number, image, external, asked, json.dumps(said)),
                )
        return said, new

    def faces(
        self, collection: Collection, after: int, most: int, ids: Iterable[str] | None
    ) -> list[tuple[int, Answer]]:
        """Faces in the order of their storing, each with its number, from behind a number on."""
        where = "WHERE collection = ? AND number > ?"
        with self._lock:
            if ids is None:
                rows = self._db.execute(f"{_FACES} {where} ORDER BY number LIMIT ?", (collection.number, after, most))
                return [(row[0], self._face(row)) for row in rows]
            found = self._by_id(collection, ids)
        return [one for one in sorted(found, key=lambda one: one[0]) if one[0] > after][:most]

    def delete_faces(self, collection: Collection, ids: Iterable[str]) -> set[str]:
        """Delete faces; returns the ids of those that were there. Their images can be indexed anew."""
        with self._writing() as db:
            found = self._by_id(collection, ids)
            numbers = [(number,) for number, _ in found]
            db.executemany(
                "DELETE FROM indexed WHERE (collection, image, external_id) = "
                "(SELECT collection, image, external_id FROM faces WHERE number = ?)",
                numbers,
            )
            db.executemany("DELETE FROM faces WHERE number = ?", numbers)
            if found and collection.number in self._vectors:
                self._vectors[collection.number].remove([number for number, _ in found])
        if found:
            self._empty_log()
        return {face["FaceId"] for _, face in found}

    def search(
        self, collection: Collection, query: Image, *, most: int, alike: Callable[[float], bool], but: str | None = None
    ) -> list[tuple[float, Answer]]:
        """The faces most like an embedding, best first, each with its cosine.

        Args:
            collection: Where to look.
            query: An embedding of length 1.
            most: How many at most.
            alike: Whether a cosine is high enough; if it says no, every lower one is not.
            but: A face that is not looked for.
        """
        numpy = load("numpy")
        with self._lock:
            snapshot = self._loaded(collection).snapshot()
        if snapshot is None:
            return []
        rows, numbers = snapshot
        cosines = rows @ query
        best = numpy.argsort(-cosines, kind="stable")[: most + 1]  # one more, for the face that is left out
        wanted: list[tuple[float, int]] = []
        for place in best:
            if not alike(float(cosines[place])):
                break
            wanted.append((float(cosines[place]), int(numbers[place])))
        with self._lock:
            faces = self._by_number([number for _, number in wanted])
        found = [(cosine, faces[number]) for cosine, number in wanted if number in faces]
        return [one for one in found if one[1]["FaceId"] != but][:most]

    def embedding(self, collection: Collection, face_id: str) -> Image | None:
        """The embedding of a stored face."""
        query = "SELECT embedding FROM faces WHERE collection = ? AND face_id = ?"
        with self._lock:
            row = self._db.execute(query, (collection.number, face_id)).fetchone()
        if row is None:
            return None
        vector: Image = load("numpy").frombuffer(row[0], "float32")
        return vector

    # -- liveness sessions ----------------------------------------------------------------------------------------

    def add_session(self, session: Session, token: str | None, *, forget_before: float) -> Session:
        """Store a session, or give the one that this token was used for; old ones are forgotten."""
        with self._writing() as db:
            db.execute("DELETE FROM sessions WHERE created < ?", (forget_before,))
            if token is not None:
                row = db.execute(f"{_SESSIONS} WHERE token = ?", (token,)).fetchone()
                if row is not None:
                    return _session(row)
            values = (session.id, session.created, token, session.asked, session.status)
            db.execute("INSERT INTO sessions(id, created, token, asked, status) VALUES (?, ?, ?, ?, ?)", values)
        return session

    def session(self, session_id: str) -> Session | None:
        """Find a session."""
        with self._lock:
            row = self._db.execute(f"{_SESSIONS} WHERE id = ?", (session_id,)).fetchone()
        return None if row is None else _session(row)

    def move_session(self, session: Session, was: str) -> bool:
        """Store a session's new state if it is still in the state that it was in."""
        box = None if session.box is None else json.dumps(session.box)
        values = (session.status, session.confidence, session.image, box, session.id, was)
        with self._writing() as db:
            statement = "UPDATE sessions SET status = ?, confidence = ?, image = ?, box = ? WHERE id = ? AND status = ?"
            return db.execute(statement, values).rowcount == 1

    # -- inside ---------------------------------------------------------------------------------------------------

    def _open(self, space: str) -> None:
        db = self._db
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")  # before the first access: the lock is kept from then on
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA secure_delete = ON")  # an erased embedding is overwritten, not just unlinked
            with self._writing():
                found = int(db.execute("PRAGMA user_version").fetchone()[0])
                if found == 0:
                    for statement in _TABLES.split(";"):
                        db.execute(statement)
                    db.execute("INSERT INTO facts VALUES ('space', ?)", (space,))
                    db.execute(f"PRAGMA user_version = {SCHEMA}")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise DataDirectoryError(
                    f"The data directory {self._where} is in use by another process. "
                    "Stop that process, or name another directory."
                ) from error
            raise DataDirectoryError(f"The data directory {self._where} cannot be used: {error}.") from error
        except sqlite3.DatabaseError as error:
            raise DataDirectoryError(
                f"{FILE} in {self._where} is damaged or no database: {error}. "
                "Put a copy back, or name another directory."
            ) from error
        if found > SCHEMA:
            raise DataDirectoryError(
                f"The data directory {self._where} was written by a newer version (schema {found}, this one knows "
                f"{SCHEMA}). Use that version, or name another directory."
            )
        held = str(db.execute("SELECT value FROM facts WHERE name = 'space'").fetchone()[0])
        if held != space:
            if db.execute("SELECT 1 FROM faces LIMIT 1").fetchone() is not None:
                raise DataDirectoryError(
                    f"The data directory {self._where} holds faces of the engine space {held}, and this engine's is "
                    f"{space}: their embeddings cannot be compared. Use the same engine and pack, or name another "
                    "directory."
                )
            with self._writing():
                db.execute("UPDATE facts SET value = ? WHERE name = 'space'", (space,))
                db.execute("DELETE FROM indexed")  # where the other engine saw no face this one may see some

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what is in memory beside it is dropped if it fails, and read anew."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._vectors.clear()
                raise

    def _empty_log(self) -> None:
        """After erasing: what was erased stands in the write-ahead log too, from when it was written."""
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _loaded(self, collection: Collection) -> _Vectors:
        vectors = self._vectors.get(collection.number)
        if vectors is None:
            numpy = load("numpy")
            vectors = self._vectors[collection.number] = _Vectors()
            query = "SELECT number, embedding FROM faces WHERE collection = ? ORDER BY number"
            for number, blob in self._db.execute(query, (collection.number,)):
                vectors.add(number, numpy.frombuffer(blob, "float32"))
        return vectors

    def _by_id(self, collection: Collection, ids: Iterable[str]) -> list[tuple[int, Answer]]:
        found = []
        for chunk in _chunks(list(dict.fromkeys(ids))):
            marks = ",".join("?" * len(chunk))
            rows = self._db.execute(
                f"{_FACES} WHERE collection = ? AND face_id IN ({marks})", (collection.number, *chunk)
            )
            found += [(row[0], self._face(row)) for row in rows]
        return found

    def _by_number(self, numbers: Sequence[int]) -> dict[int, Answer]:
        found = {}
        for chunk in _chunks(numbers):
            rows = self._db.execute(f"{_FACES} WHERE number IN ({','.join('?' * len(chunk))})", chunk)
            found.update({row[0]: self._face(row) for row in rows})
        return found

    def _face(self, row: tuple[Any, ...]) -> Answer:
        _, face_id, image_id, external, box, confidence = row
        face: Answer = {
            "FaceId": face_id,
            "BoundingBox": json.loads(box),
            "ImageId": image_id,
            "Confidence": confidence,
            "IndexFacesModelVersion": self._version,
        }
        if external is not None:
            face["ExternalImageId"] = external
        return face


_FACES: Final = "SELECT number, face_id, image_id, external_id, box, confidence FROM faces"
_SESSIONS: Final = "SELECT id, created, asked, status, confidence, image, box FROM sessions"


def _session(row: tuple[Any, ...]) -> Session:
    number, created, asked, status, confidence, image, box = row
    return Session(number, created, asked, status, confidence, image, None if box is None else json.loads(box))


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _private_file(directory: Path) -> str:
    """The database's path; directory and file are made for this user alone. SQLite's own files follow the file."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = directory / FILE
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:  # not opened here: closing it would take away the lock of another Storage in this process
        file.chmod(0o600)
    return str(file)
