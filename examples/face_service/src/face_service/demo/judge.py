"""What must hold whatever is done to the cameras, judged from what the receiver got and the service said."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from face_service.demo.script import Step

if TYPE_CHECKING:
    from face_service.demo.system import System
    from face_service.demo.watch import Watch

__all__ = ["SCHEMA", "Done", "Finding", "Report", "judge"]

SCHEMA: Final = 1
_NOTICED_WITHIN: Final = 15.0  # seconds: the longest way to a death, of a camera that hangs


@dataclass(frozen=True, slots=True)
class Done:
    """Something that was done to a camera."""

    at: float
    step: Step
    said: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that must hold."""

    rule: str
    holds: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    seconds: float
    cameras: int
    done: tuple[Done, ...]
    findings: tuple[Finding, ...]
    letters: dict[str, int]
    story: tuple[dict[str, Any], ...]
    session: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return all(finding.holds for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON members."""
        return {
            "schema": SCHEMA,
            "seconds": round(self.seconds, 1),
            "cameras": self.cameras,
            "done": [{"at": round(one.at, 1), "what": str(one.step), "said": one.said} for one in self.done],
            "webhooks": self.letters,
            "story": list(self.story),
            "session": self.session,
            "findings": [{"rule": one.rule, "holds": one.holds, "seen": one.seen} for one in self.findings],
            "holds": self.holds,
        }


def judge(system: System, watch: Watch, done: tuple[Done, ...]) -> Report:
    """Judge a run whose service has ended."""
    inbox = system.inbox
    letters = watch.letters()
    findings = [
        Finding("every webhook has a good signature", inbox.refused == 0, f"{inbox.refused} refused"),
        _right_people(watch),
        _all_people(system, watch),
        _told(watch, "CAMERA_DISCONNECTED", watch.deaths, "the receiver hears of each camera that dies"),
        _told(watch, "CAMERA_RECONNECTED", watch.revivals, "and of each that is revived"),
        _none_left_dead(system, watch),
        Finding("the service answers all the time", watch.failures == 0, f"{watch.failures} questions without answer"),
        Finding("and is live all the time", bool(watch.health.get("live")), f"live: {watch.health.get('live')}"),
        Finding("it ends in order", system.exit_code == 0, f"exit code {system.exit_code}"),
        *_from_log(system, bool(watch.session)),
    ]
    return Report(
        seconds=watch.seconds,
        cameras=len(system.cameras),
        done=done,
        findings=tuple(findings),
        letters=dict(sorted(letters.items())),
        story=_story(watch, done),
        session={name: watch.session[name] for name in ("recognised", "delivered", "undelivered") if watch.session},
    )


def _story(watch: Watch, done: tuple[Done, ...]) -> tuple[dict[str, Any], ...]:
    """What was done and what was told, in order of time; people are left out."""
    events: list[dict[str, Any]] = [{"at": one.at, "done": str(one.step)} for one in done]
    for letter in watch.system.inbox.letters:
        told = {"webhook": letter.kind, "reason": str(letter.body.get("reason", "")), "camera": letter.camera}
        events.append({"at": letter.at - watch.began, **{name: value for name, value in told.items() if value}})
    return tuple({**one, "at": round(one["at"], 1)} for one in sorted(events, key=lambda one: one["at"]))


def _right_people(watch: Watch) -> Finding:
    """Camera n shows card n alone."""
    found = watch.recognised()
    wrong = [person for person, cameras in found.items() if any(person != f"card-{camera}" for camera in cameras)]
    twice = [person for person, cameras in found.items() if len(cameras) > 1]
    good = not wrong and not twice
    return Finding(
        "people are recognised where they are, and told once",
        good,
        f"{len(found)} told" + ("" if good else f", {len(wrong)} elsewhere, {len(twice)} twice"),
    )


def _all_people(system: System, watch: Watch) -> Finding:
    """Whoever could be seen was seen."""
    shown = {row.number for row in watch.rows if row.looked > 10}
    missing = [one.number for one in system.cameras if one.number in shown and one.person not in watch.recognised()]
    return Finding("everybody who could be seen is recognised", not missing, f"missing at cameras {missing or 'none'}")


def _told(watch: Watch, kind: str, cameras: set[int], rule: str) -> Finding:
    told = {letter.camera for letter in watch.system.inbox.letters if letter.kind == kind}
    unheard = sorted(number for number in cameras if str(number) not in told)
    # The last camera's death is told as the session's end.
    last = kind == "CAMERA_DISCONNECTED" and any(one.kind == "STOPPED" for one in watch.system.inbox.letters)
    return Finding(rule, len(unheard) <= last, f"cameras {sorted(cameras) or 'none'}, not told {unheard or 'none'}")


def _none_left_dead(system: System, watch: Watch) -> Finding:
    now = time.monotonic()
    running = [one for one in system.cameras if one.how == "running" and now - one.since > _NOTICED_WITHIN]
    down = {row.number for row in watch.rows if not row.well}
    left = [one.number for one in running if one.number in down]
    ended = not watch.session
    return Finding(
        "no camera that runs is left dead while the session does",
        ended or not left,
        "the session has ended" if ended else f"left dead: {left or 'none'}",
    )


def _from_log(system: System, session: bool) -> tuple[Finding, Finding]:
    text = system.log.read_text(encoding="utf-8", errors="replace")
    known = [word for word in system.planted if word in text]
    wanted = f"Cleanup complete: {len(system.cameras) if session else 0} tasks, {int(session)} sessions"
    return (
        Finding("it stops its sessions and counts them", wanted in text, wanted),
        Finding("its log has no key, password or person", not known, f"{len(known)} of {len(system.planted)} found"),
    )
