"""The handler of production: the image core. Importing this loads libvips; the HTTP process never does."""

from collections.abc import Sequence

from safelight.image.identify import identify
from safelight.image.pipeline import import_all, thumbnail, warm_up
from safelight.image.plugin_files import load_plugins
from safelight.image.result import ImageInfo, Thumbnails
from safelight.image.settings import ImageSettings
from safelight.image.spec import ThumbnailSpec


class ImageHandler:
    """The image core with its settings and plugins."""

    def __init__(self, settings: ImageSettings) -> None:
        import_all()
        self._settings = settings
        self._catalogue = load_plugins(settings.plugins)

    def warm_up(self) -> None:
        warm_up(self._settings)

    def thumbnail(
        self, data: bytes | memoryview, specs: Sequence[ThumbnailSpec], granted_bytes: int | None = None
    ) -> Thumbnails:
        return thumbnail(data, specs, self._settings, self._catalogue, granted_bytes=granted_bytes)

    def identify(self, data: bytes | memoryview) -> ImageInfo:
        return identify(data, self._settings)
