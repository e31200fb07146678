"""An app made of a configuration text, without image workers."""

from server_support import FakeEngine

from safelight.api import build, load_config
from safelight.server.app import App, AppSettings
from safelight.server.image_store import StoreService
from safelight.server.stats import Statistics


def configured(text: str) -> App:
    """The app that serves a configuration; relative roots are in the current directory."""
    statistics = Statistics()
    counters = statistics.counters(statistics.take_row())
    settings = AppSettings()
    api = build(load_config(text, "test.sdl"), FakeEngine(), counters)
    return App(StoreService(api, settings.max_bytes), settings, statistics, counters)
