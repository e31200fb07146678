"""The attribute `speed` of thumbnails: unknown names are found at load, if they are there already."""

import pytest

from safelight import api
from safelight.errors import ConfigError
from safelight.image.speed import SPEEDS


def load(speed: str) -> None:
    api.load_config(f'get {{\nthumbnail "input" "small" width=8 height=8 speed="{speed}"\n}}', "x.conf")


@pytest.mark.parametrize("speed", [*SPEEDS, "#{speed}", "be#{st}"])
def test_known_names_and_what_a_request_will_tell(speed: str) -> None:
    load(speed)


@pytest.mark.parametrize("speed", ["slow", "BEST", ""])
def test_an_unknown_constant(speed: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(speed)
    expected = "expected 'speed' attribute value to be one of reference, fast, balanced, best; got: "
    assert expected + f'"{speed}"' in error.value.message
    assert error.value.message.startswith("x.conf:2:")
