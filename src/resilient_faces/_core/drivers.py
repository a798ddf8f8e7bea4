"""The two drivers. Beside the direct path, the only code that calls, sleeps and awaits.

Only a driver's frame lies under user code: policies are suspended while it runs, so a raised error's traceback holds no
frame of a policy, and no outcome keeps the error that it describes alive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import TypeAlias, TypeVar

from resilient_faces._core.effects import ATTEMPT, Ask, CallOther, Flow, Tell, Unanswered
from resilient_faces._core.outcome import Call, Caught, Got, name_of
from resilient_faces._core.runtime import RUNTIME
from resilient_faces.faults import Fault

__all__ = ["Classify", "run_async", "run_sync"]

T = TypeVar("T")
Classify: TypeAlias = Callable[[BaseException], Fault]


def run_sync(flow: Flow[T], call: Call, classify: Classify) -> T:
    """Carry out what a flow asks for, in this thread, and return what it decided."""
    answer: object = None
    request: object = None
    send = flow.send
    try:
        while True:
            request = send(answer)
            if request is ATTEMPT:
                answer = call.first
                if answer is None:
                    try:
                        answer = Got()
                        answer.value = call.function(*call.args, **call.kwargs)
                    except Exception as error:
                        answer = Caught()
                        answer.error = error
                        answer.fault = classify(error)
                else:
                    call.first = None
                continue
            answer = None
            if type(request) is float or isinstance(request, (float, int)):
                if request > 0.0:
                    RUNTIME.sleep(request, call.function)
            elif type(request) is CallOther:
                try:
                    answer = Got()
                    answer.value = request.function(*request.args, **request.kwargs)
                    if isinstance(answer.value, CoroutineType):
                        raise _never_awaited(request.function)
                except Exception as error:
                    answer = Caught()
                    answer.error = error
                    answer.fault = classify(error)
            elif type(request) is Tell:
                RUNTIME.tell(request.event)
            elif type(request) is Ask:
                answer = _ask(request)
            else:
                raise _unknown(request)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a variable would keep the error alive: see the docstring
    except BaseException:
        flow.close()
        raise
    finally:
        answer = request = None  # both may hold an error whose traceback holds this frame


async def run_async(flow: Flow[T], call: Call, classify: Classify) -> T:
    """As `run_sync`, in a task: attempts and other calls are awaited, sleeps are cancellable."""
    answer: object = None
    request: object = None
    send = flow.send
    try:
        while True:
            request = send(answer)
            if request is ATTEMPT:
                answer = call.first
                if answer is None:
                    try:
                        answer = Got()
                        answer.value = await call.function(*call.args, **call.kwargs)  # type: ignore[misc]
                    except Exception as error:
                        answer = Caught()
                        answer.error = error
                        answer.fault = classify(error)
                else:
                    call.first = None
                continue
            answer = None
            if type(request) is float or isinstance(request, (float, int)):
                await RUNTIME.asleep(request)
            elif type(request) is CallOther:
                try:
                    answer = Got()
                    value = request.function(*request.args, **request.kwargs)
                    answer.value = await value if isinstance(value, Awaitable) else value
                    value = None
                except Exception as error:
                    answer = Caught()
                    answer.error = error
                    answer.fault = classify(error)
            elif type(request) is Tell:
                RUNTIME.tell(request.event)
            elif type(request) is Ask:
                answer = await _ask_async(request)
            else:
                raise _unknown(request)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # a variable would keep the error alive: see the docstring
    except BaseException:
        flow.close()
        raise
    finally:
        answer = request = None  # both may hold an error whose traceback holds this frame


def _never_awaited(function: object) -> TypeError:
    return TypeError(
        f"{name_of(function)} returned a coroutine to a synchronous call, which cannot await it. "
        "Give a plain function, or guard a coroutine function."
    )


def _unknown(request: object) -> TypeError:
    return TypeError(
        f"a flow must yield a request of resilient_faces.flows; got {type(request).__name__}. "
        "Did a policy write `yield inner(call)` instead of `yield from inner(call)`?"
    )


# -- stores --------------------------------------------------------------------------------------------------------


def _ask(request: Ask) -> object:
    try:
        if request.inline:
            return request.operation(*request.args)
        from resilient_faces._core import workers  # few programs have a store

        return workers.run(lambda: request.operation(*request.args), request.limit)
    except Exception as error:
        return Unanswered(type(error).__name__)


async def _ask_async(request: Ask) -> object:
    try:
        if request.inline:
            return request.operation(*request.args)
        from resilient_faces._core import workers  # likewise

        return await workers.run_async(lambda: request.operation(*request.args), request.limit, apart=True)
    except Exception as error:
        return Unanswered(type(error).__name__)
