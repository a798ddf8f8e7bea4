"""Settings come from the environment, and a mistyped one is no setting."""

from __future__ import annotations

import pytest

from resilient_faces.errors import OptionError
from resilient_faces.pipeline.settings import Settings


def test_defaults_are_the_documents() -> None:
    """50 a second, at most 50 a batch, three retries."""
    settings = Settings.from_environment({})
    assert (settings.rate, settings.max_deliveries, settings.region) == (50.0, 4, "us-west-2")
    assert settings.batch <= 50


def test_variables_are_read_and_arguments_win() -> None:
    """Prefix and name; foreign variables and the cache folder are left alone."""
    variables = {
        "RESILIENT_FACES_RATE": "5.5",
        "RESILIENT_FACES_WORKERS": "3",
        "RESILIENT_FACES_REGION": "eu-west-1",
        "RESILIENT_FACES_CACHE": "/somewhere",
        "PATH": "/bin",
    }
    settings = Settings.from_environment(variables, workers=7)
    assert (settings.rate, settings.workers, settings.region) == (5.5, 7, "eu-west-1")


def test_all_that_is_wrong_is_said_at_once() -> None:
    """A mistyped name gets a suggestion, a value that is none is named."""
    with pytest.raises(OptionError) as caught:
        Settings.from_environment({"RESILIENT_FACES_RAET": "5", "RESILIENT_FACES_BATCH": "many"})
    assert "Did you mean RESILIENT_FACES_RATE?" in str(caught.value)
    assert "RESILIENT_FACES_BATCH must be a whole number; got 'many'" in str(caught.value)


def test_a_wrong_value_is_named_as_it_was_given() -> None:
    """By its variable, or as the option of the class if it came from the program."""
    with pytest.raises(OptionError, match="RESILIENT_FACES_BATCH must be from 1 to 50") as caught:
        Settings.from_environment({"RESILIENT_FACES_BATCH": "51", "RESILIENT_FACES_RATE": "0"}, workers=0)
    assert "RESILIENT_FACES_RATE must be" in str(caught.value)
    assert "Settings.workers must be" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 51}, "Settings.batch must be from 1 to 50"),
        ({"rate": 0.0, "workers": 0}, "Settings.workers"),
        ({"handling": 30.0}, "Settings.handling must be less than Settings.visibility"),
        ({"region": ""}, "Settings.region must be a region such as us-west-2; got ''"),
    ],
)
def test_wrong_values(options: dict[str, float], message: str) -> None:
    """Name, rule, value and cure."""
    with pytest.raises(OptionError, match=message):
        Settings(**options)  # type: ignore[arg-type]
