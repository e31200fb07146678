"""For authors of plugins: `docs/plugins.md` shows how to use it.

from safelight.plugin import edit, ufloat_arg

@edit("darken")
def darken(image, strength, options, thumbnail_spec):
    return image.vips * (1 - ufloat_arg("strength", strength, 0.5))
"""

from safelight.image.arguments import ArgumentError as PluginArgumentError
from safelight.image.arguments import float_arg, int_arg, ufloat_arg, uint_arg
from safelight.image.plugin import edit, thumbnailing_method
from safelight.image.plugin_image import PluginImage

__all__ = [
    "PluginArgumentError",
    "PluginImage",
    "edit",
    "float_arg",
    "int_arg",
    "thumbnailing_method",
    "ufloat_arg",
    "uint_arg",
]
