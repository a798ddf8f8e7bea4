"""Who a face belongs to: enrolled embeddings, matched by one matrix product, kept in one file.

Embeddings of one space are comparable with each other and with nothing else, so a gallery belongs to a space (see
`Recogniser.space`). Identities are the caller's words for persons; no log, `repr` or error text has them.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from resilient_faces._core.options import Checks, checked_call
from resilient_faces._core.runtime import on_fork
from resilient_faces.adapters._faces import Image, load
from resilient_faces.errors import OptionError, ResilienceError
from resilient_faces.faults import Executed, Fault, Kind

__all__ = ["SCHEMA", "Gallery", "GalleryError", "Match", "Neighbour"]

SCHEMA: Final = 1
"""Version of the file. A reader refuses what is newer than itself."""

_MAGIC: Final = b"resilient-faces gallery\n"
_SIZE: Final = struct.Struct("<Q")
_DIGEST: Final = 32  # bytes of SHA-256
_BLOCK: Final = 1 << 22  # bytes read, written and hashed at a time
_ROWS: Final = 1 << 14  # rows copied or widened at a time
_PART: Final = ".part"
_LEFT_OVER: Final = 3600.0  # seconds after which a half-written file is nobody's any more
_SCORES: Final = 1 << 24  # scores held at a time when several faces are matched
_SMALLEST: Final = 1e-6  # length of an embedding that still has a direction
_LARGEST: Final = 1e6


class GalleryError(ResilienceError):
    """The file of a gallery cannot be used; it is left as it is.

    Attributes:
        reason: `missing`, `damaged`, `newer` (of a later version) or `space` (embeddings of another recogniser).
        fault: What it means to policies.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.fault: Final = Fault(Kind.invalid, f"gallery.{reason}", Executed.no)

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An enrolled person and how near they are.

    Attributes:
        identity: Who; not in the `repr`.
        cosine: Cosine of their nearest embedding with the one that is asked about, from -1 to 1.
    """

    identity: str = field(repr=False)
    cosine: float


@dataclass(frozen=True, slots=True)
class Match:
    """Whose face it is, or why nobody's.

    Attributes:
        identity: Who; None if nobody is near enough, or two persons are about as near. Not in the `repr`.
        cosine: Cosine with the nearest embedding, whoever's it is; -1 if the gallery is empty.
        margin: How much nearer that person is than the next; infinite if there is no other.
        reason: `below_threshold`, `too_close` or `empty`; empty if there is an identity.
    """

    identity: str | None = field(repr=False)
    cosine: float
    margin: float
    reason: str = ""

    def __bool__(self) -> bool:
        return self.identity is not None


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """All that matching needs, as it was at one moment. Nothing that a state refers to is ever changed.

    The arrays may be longer than `count`: what lies behind belongs to later states.
    """

    rows: Any  # float32 of shape (capacity, length): embeddings as they were given
    scales: Any  # float64: what makes each row have length 1
    factors: Any  # float32: the same
    persons: Any  # int32: number of the person
    names: list[str]  # by number; it only grows
    count: int
    gone: Any  # int64: rows that were removed, in order
    alive: int  # persons


class Gallery:
    """Enrolled embeddings of persons, each with one or several.

    Matching never waits: it works on a state that no change touches, so it sees each change whole or not at all.
    Changes come one after another. A person of several embeddings is as near as the nearest of them.

    `threshold` and `margin` depend on the recogniser and on what a mistake costs: choose them by measuring on your own
    photographs, see the how-to.

    Args:
        space: Which embeddings these are: `Recogniser.space`.
        length: Numbers in an embedding.
        threshold: Cosine from which on a face is somebody's.
        margin: How much nearer the nearest person must be than the next, as a difference of cosines.

    Raises:
        OptionError: Options are wrong; the message lists all of them.
        MissingExtraError: numpy is not installed (extra `insightface`).
    """

    def __init__(self, space: str, *, length: int = 512, threshold: float = 0.5, margin: float = 0.05) -> None:
        checks = Checks("Gallery")
        checks.that(
            isinstance(space, str) and bool(space), "space", "a recogniser's space, such as engine.space", space
        )
        checks.whole("length", length, 1)
        checks.number("threshold", threshold, -1.0, 1.0)
        checks.number("margin", margin, 0.0, 2.0)
        checks.done()
        self._numpy = load("numpy", "insightface")
        self.space: Final = space
        self.length: Final = length
        self.threshold: Final = float(threshold)
        self.margin: Final = float(margin)
        # Whatever the order of its sums, a score in float32 is off by less than this.
        self._error = (length + 8) * 2.0**-24
        self._changing = threading.RLock()
        self._saving = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._state = self._empty(0)
        on_fork(self)

    # -- asking ----------------------------------------------------------------------------------------------------

    def match(self, embedding: Image) -> Match:
        """Whose face this is.

        Args:
            embedding: Of shape (length,), of any length but zero.

        Raises:
            OptionError: It has another shape, or is not finite.
        """
        return self.match_all(self._reals(embedding, "Gallery.match")[None])[0]

    def match_all(self, embeddings: Image) -> tuple[Match, ...]:
        """Whose faces these are, all judged by the same state of the gallery.

        Args:
            embeddings: Of shape (faces, length).
        """
        asked = self._reals(embeddings, "Gallery.match")
        return tuple(self._judge(found) for found in self._ranked(asked, 2, "Gallery.match"))

    def nearest(self, embedding: Image, most: int = 5) -> tuple[Neighbour, ...]:
        """The nearest persons, nearest first, however far away they are."""
        checks = Checks("Gallery.nearest")
        checks.whole("most", most, 1)
        checks.done()
        asked = self._reals(embedding, "Gallery.nearest")[None]
        return next(iter(self._ranked(asked, most, "Gallery.nearest")))

    def _judge(self, found: tuple[Neighbour, ...]) -> Match:
        if not found:
            return Match(None, -1.0, math.inf, "empty")
        best = found[0]
        margin = best.cosine - found[1].cosine if len(found) > 1 else math.inf
        if best.cosine < self.threshold:
            return Match(None, best.cosine, margin, "below_threshold")
        if margin < self.margin:
            return Match(None, best.cosine, margin, "too_close")
        return Match(best.identity, best.cosine, margin)

    def _ranked(self, asked: Image, most: int, where: str) -> Iterator[tuple[Neighbour, ...]]:
        numpy = self._numpy
        lengths = self._lengths(asked, where)
        asked = asked.astype(numpy.float64, copy=False) / lengths[:, None]
        state = self._state
        if state.count == 0:
            yield from ((),) * len(asked)
            return
        rows, factors = state.rows[: state.count], state.factors[: state.count]
        together = max(1, _SCORES // state.count)
        for start in range(0, len(asked), together):
            some = asked[start : start + together]
            columns = some.astype(numpy.float32).T
            # One product for all rows and all these faces; of a single one as a vector, which is quicker.
            scores = (rows @ columns).T if len(some) > 1 else (rows @ columns[:, 0])[None]
            for one, column in zip(some, scores, strict=True):
                column = column * factors  # noqa: PLW2901  # contiguous, and its own
                column[state.gone] = -numpy.inf
                yield self._nearest(state, column, one, most)

    def _nearest(self, state: _State, scores: Any, asked: Any, most: int) -> tuple[Neighbour, ...]:
        """The first persons of a column of scores. All rows that may be the best are looked at again in float64."""
        numpy = self._numpy
        found: list[Neighbour] = []
        persons = state.persons[: state.count]
        while len(found) < min(most, state.alive):
            best = scores.max()
            close = numpy.flatnonzero(scores >= best - 2.0 * self._error)
            exact = numpy.concatenate([self._exact(state, part, asked) for part in _parts(numpy, close)])
            first = int(exact.argmax())  # of exactly equal ones the one that was enrolled first
            person = int(persons[close[first]])
            cosine = min(1.0, max(-1.0, float(exact[first])))  # a last bit may be too many
            found.append(Neighbour(state.names[person], cosine))
            if len(found) < most:
                scores[persons == person] = -numpy.inf
        return tuple(found)

    def _exact(self, state: _State, rows: Any, asked: Any) -> Any:
        """Cosines in float64. Sums, not a product: that may add up equal rows in different orders."""
        return (state.rows[rows].astype(self._numpy.float64) * asked).sum(axis=1) * state.scales[rows]

    # -- changing --------------------------------------------------------------------------------------------------

    def add(self, identity: str, embedding: Image) -> None:
        """Enrol one more embedding of a person."""
        self.add_all([identity], self._reals(embedding, "Gallery.add")[None])

    def add_all(self, identities: Sequence[str], embeddings: Image) -> None:
        """Enrol many; whoever matches meanwhile sees all of them or none.

        Args:
            identities: Who, row by row. The same person may be there several times, and already be enrolled.
            embeddings: Of shape (len(identities), length).

        Raises:
            OptionError: Shapes do not fit, an identity is no text, or an embedding has no direction; nothing was added.
        """
        numpy = self._numpy
        with numpy.errstate(over="ignore"):  # what is too large for float32 is refused by its length
            rows = self._reals(embeddings, "Gallery.add").astype(numpy.float32, copy=False)
        lengths = self._lengths(rows, "Gallery.add")
        checks = Checks("Gallery.add")
        checks.that(len(identities) == len(rows), "identities", f"as many as embeddings ({len(rows)})", len(identities))
        good = not isinstance(identities, str) and all(isinstance(one, str) and one for one in identities)
        checks.that(good, "identities", "texts that are not empty", "something else")
        checks.done()
        with self._changing:
            state = self._room_for(len(rows))
            begin, end = state.count, state.count + len(rows)
            state.rows[begin:end] = rows
            state.scales[begin:end] = 1.0 / lengths
            state.factors[begin:end] = 1.0 / lengths
            known = len(self._numbers)
            for place, identity in enumerate(identities, begin):
                number = self._numbers.get(identity)
                if number is None:
                    number = self._numbers[identity] = len(state.names)
                    state.names.append(identity)
                state.persons[place] = number
            alive = state.alive + len(self._numbers) - known
            self._state = replace(state, count=end, alive=alive)  # from here on it is seen

    def remove(self, identity: str) -> int:
        """Forget a person. Returns how many embeddings they had; 0 if they were not enrolled.

        The embeddings are gone from memory with the next compaction, which comes when a quarter of the rows were
        removed, and with `compact()`; a file that is saved does not have them.
        """
        numpy = self._numpy
        with self._changing:
            number = self._numbers.pop(identity, None)
            if number is None:
                return 0
            state = self._state
            rows = numpy.flatnonzero(state.persons[: state.count] == number)
            gone = numpy.concatenate([state.gone, rows])
            self._state = replace(state, gone=gone, alive=state.alive - 1)
            if len(gone) * 4 >= state.count:
                self._rebuild()
            return len(rows)

    def compact(self) -> None:
        """Take removed embeddings out of memory now."""
        with self._changing:
            self._rebuild()

    def _room_for(self, more: int) -> _State:
        """The present state with room behind it. The caller holds the lock."""
        state = self._state
        needed = state.count + more
        if needed <= len(state.rows):
            return state
        fresh = self._empty(max(needed, state.count * 3 // 2, 64))
        for new, old in zip(_arrays(fresh), _arrays(state), strict=True):
            new[: state.count] = old[: state.count]
        return replace(fresh, names=state.names, count=state.count, gone=state.gone, alive=state.alive)

    def _rebuild(self) -> None:
        """Make a state without the removed rows. The caller holds the lock."""
        state = self._state
        if len(state.gone) == 0:
            return
        kept = self._kept(state)
        names, persons = self._renumbered(state, kept)
        self._state = _State(
            state.rows[kept],
            state.scales[kept],
            state.factors[kept],
            persons,
            names,
            len(kept),
            self._numpy.empty(0, self._numpy.int64),
            len(names),
        )
        self._numbers = {name: number for number, name in enumerate(names)}

    def _kept(self, state: _State) -> Any:
        """The rows that were not removed."""
        mask = self._numpy.ones(state.count, bool)
        mask[state.gone] = False
        return self._numpy.flatnonzero(mask)

    def _renumbered(self, state: _State, kept: Any) -> tuple[list[str], Any]:
        """Names of the persons of these rows, and their numbers among those names."""
        used, persons = self._numpy.unique(state.persons[kept], return_inverse=True)
        return [state.names[number] for number in used], persons.astype(self._numpy.int32)

    def _empty(self, capacity: int) -> _State:
        numpy = self._numpy
        return _State(
            numpy.empty((capacity, self.length), numpy.float32),
            numpy.empty(capacity, numpy.float64),
            numpy.empty(capacity, numpy.float32),
            numpy.empty(capacity, numpy.int32),
            [],
            0,
            numpy.empty(0, numpy.int64),
            0,
        )

    def _reals(self, embeddings: Image, where: str) -> Any:
        """What was given as an array of real numbers."""
        try:
            given = self._numpy.asarray(embeddings)
        except (TypeError, ValueError):
            given = None
        if given is None or given.dtype.kind not in "fiu":
            raise OptionError(f"{where} needs embeddings as an array of real numbers; got something else.")
        return given

    def _lengths(self, rows: Any, where: str) -> Any:
        """Lengths of embeddings in float64, once their shape is right and each has a direction."""
        numpy = self._numpy
        if rows.ndim != 2 or rows.shape[1] != self.length:
            shape = tuple(rows.shape[1:]) if rows.ndim else ()
            raise OptionError(f"{where} needs embeddings of shape ({self.length},); got {shape}.")
        lengths = numpy.empty(len(rows), numpy.float64)
        for start in range(0, len(rows), _ROWS):  # a million rows in float64 would be 4 GB
            part = rows[start : start + _ROWS].astype(numpy.float64)
            with numpy.errstate(over="ignore", invalid="ignore"):
                lengths[start : start + _ROWS] = numpy.sqrt((part * part).sum(axis=1))
        if not ((lengths >= _SMALLEST) & (lengths <= _LARGEST)).all():  # not a number is neither
            raise OptionError(
                f"{where} needs embeddings of finite numbers with a length from {_SMALLEST:g} to {_LARGEST:g}; "
                "at least one has another."
            )
        return lengths

    def __len__(self) -> int:
        """Persons."""
        return self._state.alive

    def __contains__(self, identity: object) -> bool:
        return identity in self._numbers

    @property
    def embeddings(self) -> int:
        """Embeddings of all persons."""
        state = self._state
        return state.count - len(state.gone)

    def identities(self) -> tuple[str, ...]:
        """Who is enrolled, in order of enrolment."""
        with self._changing:
            return tuple(self._numbers)

    def __repr__(self) -> str:
        return f"Gallery(space={self.space!r}, persons={len(self)}, embeddings={self.embeddings})"

    def after_fork(self) -> None:
        self._changing, self._saving = threading.RLock(), threading.Lock()

    # -- the file --------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write everything to a file that only this user can read.

        The file at that place is the old one until the new one is whole and on the disk, whatever happens meanwhile.
        What a process that was killed left half-written is taken away by a save an hour later.

        Raises:
            OSError: It cannot be written; the old file is as it was.
        """
        path = Path(path).absolute()
        with self._saving:  # so that no older state comes after a newer one
            state = self._state
            kept = self._kept(state)
            names, persons = self._renumbered(state, kept)
            header = {
                "schema": SCHEMA,
                "space": self.space,
                "length": self.length,
                "embeddings": len(kept),
                "identities": names,
            }
            text = json.dumps(header, separators=(",", ":")).encode()
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    out = _Hashed(file)
                    out.write(_MAGIC + _SIZE.pack(len(text)) + text)
                    out.write(persons.astype("<i4"))
                    for part in _parts(self._numpy, kept):
                        out.write(state.rows[part].astype("<f4"))
                    out.write(out.digest.digest())
                    os.fsync(descriptor)
                temporary.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _settle(path)

    @classmethod
    def load(cls, path: Path | str, *, space: str, threshold: float = 0.5, margin: float = 0.05) -> Gallery:
        """Read a file that `save` wrote.

        Args:
            path: Where.
            space: Which embeddings are expected: `Recogniser.space`.
            threshold: As of `Gallery`.
            margin: As of `Gallery`.

        Raises:
            GalleryError: The file is missing, damaged, newer than this version, or of another space. It stays there.
            OSError: It cannot be read.
        """
        path = Path(path).absolute()
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise GalleryError("missing", f"The gallery {path} is not there. Gallery.save makes it.") from None
        with file:
            size = _checked(file, path)
            begin = len(_MAGIC) + _SIZE.size
            file.seek(len(_MAGIC))
            (long,) = _SIZE.unpack(file.read(_SIZE.size))
            if long > size - begin:
                raise _damaged(path, "its header is cut")
            header = _header(file.read(long), path)
            if header["schema"] > SCHEMA:
                raise GalleryError(
                    "newer",
                    f"The gallery {path} is of version {header['schema']}, and this is version {SCHEMA}: upgrade "
                    "resilient-faces.",
                )
            if header["space"] != space:
                raise GalleryError(
                    "space",
                    f"The gallery {path} holds embeddings of {header['space']!r}, which cannot be compared with those "
                    f"of {space!r}. Enrol the persons again with this recogniser.",
                )
            made = cls(space, length=header["length"], threshold=threshold, margin=margin)
            made._fill(file, header, size - begin - long, path)
        return made

    def _fill(self, file: BinaryIO, header: dict[str, Any], size: int, path: Path) -> None:
        numpy = self._numpy
        count, names = header["embeddings"], header["identities"]
        if size != count * 4 * (1 + self.length):
            raise _damaged(path, "it has another length than its header says")
        persons = numpy.frombuffer(file.read(count * 4), "<i4").astype(numpy.int32)
        state = self._empty(count)
        for start in range(0, count, _ROWS):
            part = numpy.frombuffer(file.read(min(_ROWS, count - start) * 4 * self.length), "<f4")
            state.rows[start : start + _ROWS] = part.reshape(-1, self.length)
        if count and (persons.min() < 0 or persons.max() >= len(names)):
            raise _damaged(path, "it has embeddings of nobody")
        if len(numpy.unique(persons)) != len(names):
            raise _damaged(path, "it has persons without an embedding")
        try:
            lengths = self._lengths(state.rows, "Gallery.load")
        except OptionError:
            raise _damaged(path, "it has embeddings without a direction") from None
        state.scales[:] = state.factors[:] = 1.0 / lengths
        state.persons[:] = persons
        self._state = replace(state, names=list(names), count=count, alive=len(names))
        self._numbers = {name: number for number, name in enumerate(names)}


Gallery.__init__ = checked_call(Gallery.__init__)  # type: ignore[method-assign]


def _arrays(state: _State) -> tuple[Any, ...]:
    return state.rows, state.scales, state.factors, state.persons


def _parts(numpy: Any, rows: Any) -> Iterable[Any]:
    """Numbers of rows in parts, so that a copy of these rows stays small; one empty part if there are none."""
    return [rows[start : start + _ROWS] for start in range(0, max(1, len(rows)), _ROWS)]


class _Hashed:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes | Image) -> None:
        left = memoryview(data if isinstance(data, bytes) else data.tobytes())
        while left:
            written = self._file.write(left[:_BLOCK])
            self.digest.update(left[:written])
            left = left[written:]


def _checked(file: BinaryIO, path: Path) -> int:
    """Length of what the file holds before its checksum, which was found to be right."""
    size = os.fstat(file.fileno()).st_size - _DIGEST
    if size < len(_MAGIC) + _SIZE.size or file.read(len(_MAGIC)) != _MAGIC:
        raise _damaged(path, "it does not begin like one, or is too short")
    digest, left = hashlib.sha256(_MAGIC), size - len(_MAGIC)
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    if file.read(_DIGEST) != digest.digest():
        raise _damaged(path, "its checksum is another")
    return size


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
        good = isinstance(header, dict) and type(header["schema"]) is int and header["schema"] >= 1
        if good and header["schema"] <= SCHEMA:
            good = isinstance(header["space"], str) and type(header["length"]) is int and header["length"] > 0
            good = good and type(header["embeddings"]) is int and header["embeddings"] >= 0
            good = good and isinstance(header["identities"], list)
            good = good and len(set(header["identities"])) == len(header["identities"])
            good = good and all(isinstance(one, str) and one for one in header["identities"])
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise _damaged(path, "its header cannot be read")
    return header  # type: ignore[no-any-return]


def _damaged(path: Path, how: str) -> GalleryError:
    return GalleryError("damaged", f"The gallery {path} is damaged: {how}. Put a backup in its place, or enrol again.")


def _settle(path: Path) -> None:
    """Have the new name on the disk too, and take away what was left half-written long ago."""
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PART}"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _LEFT_OVER:
                left.unlink()
