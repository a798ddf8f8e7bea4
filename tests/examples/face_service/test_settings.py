"""Settings: what is taken from the environment, what is refused, and that no message shows a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from face_service.settings import _KINDS, _LIMITS, Settings
from face_service.testing import KEY, SIGNING
from resilient_faces.errors import OptionError

KEYS = {"FACE_SERVICE_API_KEY": KEY, "FACE_SERVICE_WEBHOOK_KEY": SIGNING.reveal()}


def test_two_keys_are_enough() -> None:
    """Everything else has a default, and the gallery and pack lie in the data directory."""
    settings = Settings.from_environment(KEYS)
    assert settings.api_key == (KEY,)
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.pack_directory == settings.data / "pack"
    assert settings.gallery_file == settings.data / "people.gallery"
    assert settings.destinations().schemes == ("https",)


def test_every_setting_can_be_set() -> None:
    """By its variable; there is none that has no field, and no field that has no variable."""
    assert set(_KINDS) == set(Settings.__dataclass_fields__)
    texts = {
        "HOST": "0.0.0.0", "PORT": "81", "DATA": "d", "PACK": "p", "MODEL": "critical", "CALLBACK_PORTS": "any",
        "CALLBACK_SCHEMES": "http, https", "CALLBACK_ALLOW": "10.0.0.0/8", "PACE": "0.5", "AGREE": "2", "LOG": "text",
        "API_KEY": f"{KEY}, {KEY}2", "CAMERA_SCHEDULE": "spread", "DECODINGS": "3",
    }  # fmt: skip
    settings = Settings.from_environment({**KEYS, **{f"FACE_SERVICE_{name}": text for name, text in texts.items()}})
    assert (settings.host, settings.port, settings.data, settings.pack) == ("0.0.0.0", 81, Path("d"), Path("p"))
    assert settings.api_key == (KEY, KEY + "2")
    assert settings.callback_ports is None
    assert settings.callback_schemes == ("http", "https")
    assert (settings.pace, settings.agree, settings.at_once) == (0.5, 2, 3)


def test_what_is_given_wins() -> None:
    """Options of the command over the environment; None is no option."""
    settings = Settings.from_environment({**KEYS, "FACE_SERVICE_PORT": "81"}, port=82, host=None)
    assert (settings.port, settings.host) == (82, "127.0.0.1")


def test_a_mistyped_name_is_refused() -> None:
    """With what may have been meant; other variables are nobody's business."""
    with pytest.raises(OptionError, match=r"FACE_SERVICE_PROT is no setting\. Did you mean FACE_SERVICE_PORT\?"):
        Settings.from_environment({**KEYS, "FACE_SERVICE_PROT": "81"})
    Settings.from_environment({**KEYS, "RESILIENT_FACES_RATE": "1", "PORT": "x"})


def test_both_keys_must_be_there() -> None:
    """Both are named in one message, with the cure."""
    with pytest.raises(OptionError) as caught:
        Settings.from_environment({})
    text = str(caught.value)
    assert "FACE_SERVICE_API_KEY must be set" in text
    assert "FACE_SERVICE_WEBHOOK_KEY must be set" in text
    assert "face-service keys" in text


@pytest.mark.parametrize(
    "keys",
    [
        {"FACE_SERVICE_API_KEY": "pl4nted"},
        {"FACE_SERVICE_API_KEY": "pl4nted-key-with-ümlaut-in-it"},
        {"FACE_SERVICE_API_KEY": " , "},
        {"FACE_SERVICE_WEBHOOK_KEY": "pl4nted"},
        {"FACE_SERVICE_WEBHOOK_KEY": "whsec_cGw0bnRlZA=="},
    ],
)
def test_a_bad_key_is_not_shown(keys: dict[str, str]) -> None:
    """Too short, or none: the message says which setting and which rule."""
    with pytest.raises(OptionError) as caught:
        Settings.from_environment({**KEYS, **keys})
    text = str(caught.value)
    assert next(iter(keys)) in text
    assert "pl4nted" not in text
    assert "cGw0bnRlZA" not in text


def test_settings_show_no_key() -> None:
    """Not in their text either."""
    text = repr(Settings.from_environment(KEYS))
    assert KEY not in text
    assert SIGNING.reveal() not in text


@pytest.mark.parametrize("name", _LIMITS)
def test_every_number_has_its_limits(name: str) -> None:
    """Both ends are checked, and a text is no number."""
    low, high, _ = _LIMITS[name]
    for value in (low - 1, high + 1, "x", True):
        with pytest.raises(OptionError, match=rf"Settings\.{name} must be"):
            Settings(api_key=(KEY,), webhook_key=(SIGNING.reveal(),), **{name: value})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "vital"}, "Settings.model must be one of critical, important, optional; got 'vital'"),
        ({"detection_size": 333}, "must be a multiple of 32; got 333"),
        ({"agree": 6}, "Settings.agree_of must be 6 (Settings.agree) or more; got 5."),
        ({"host": " "}, "Settings.host must be an address, such as 127.0.0.1; got ' '."),
        ({"heartbeat": 60.0}, "Settings.heartbeat must be less than half of Settings.silence"),
        ({"camera_lost": 4.0}, "Settings.camera_lost must be at least twice Settings.camera_stall"),
        ({"callback_allow": ("10.1.1.1/8",)}, "Settings.callback_allow must be networks such as 10.1.0.0/16"),
        ({"port": 1.5}, "must be a whole number"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], said: str) -> None:
    """Each rule names setting, value and cure."""
    with pytest.raises(OptionError) as caught:
        Settings(api_key=(KEY,), webhook_key=(SIGNING.reveal(),), **given)
    assert said in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Whoever mends one setting need not come back for the next."""
    with pytest.raises(OptionError) as caught:
        Settings.from_environment({**KEYS, "FACE_SERVICE_PORT": "x", "FACE_SERVICE_PACE": "y", "FACE_SERVICE_X": "1"})
    assert str(caught.value).count("\n") == 2


def test_a_wrong_value_is_named_as_it_was_given() -> None:
    """An option of the command line by its name there, everything else by its variable."""
    variables = {
        "AGREE": "9", "CALLBACK_SCHEMES": "ftp", "CALLBACK_PORTS": "0", "CALLBACK_ALLOW": "foo", "GRACE": "nan",
        "LOG": "xml", "HEARTBEAT": "100",
    }  # fmt: skip
    with pytest.raises(OptionError) as caught:
        Settings.from_environment(
            {**KEYS, **{f"FACE_SERVICE_{name}": text for name, text in variables.items()}}, port=70_000, host=""
        )
    said = str(caught.value)
    assert "Settings." not in said
    assert "Destinations." not in said
    for text in (
        "--port must be a whole number from 0 to 65535",
        "--host must be an address, such as 127.0.0.1; got ''.",
        "FACE_SERVICE_GRACE must be from 0 to 600 (seconds); got nan.",
        "FACE_SERVICE_LOG must be one of json, text; got 'xml'.",
        "FACE_SERVICE_CALLBACK_SCHEMES must be https, or https and http; got 'ftp'.",
        "FACE_SERVICE_CALLBACK_PORTS must be numbers from 1 to 65535, or any; got '0'.",
        "FACE_SERVICE_CALLBACK_ALLOW must be networks such as 10.1.0.0/16; got 'foo'.",
    ):
        assert text in said
    with pytest.raises(OptionError, match=r"FACE_SERVICE_AGREE_OF must be 9 \(FACE_SERVICE_AGREE\) or more; got 5\."):
        Settings.from_environment({**KEYS, "FACE_SERVICE_AGREE": "9"})


@pytest.mark.parametrize("name", ["DATA", "PACK"])
def test_an_empty_directory_is_not_the_current_one(name: str) -> None:
    """It is what a variable gives that is not set."""
    with pytest.raises(OptionError, match=rf"FACE_SERVICE_{name} must be a directory; got ''\."):
        Settings.from_environment({**KEYS, f"FACE_SERVICE_{name}": ""})
