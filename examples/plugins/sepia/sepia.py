"""Edit `sepia`: brown like an old print, all of it or a share.

/thumbnail/fit,100,100,jpeg!sepia
/thumbnail/fit,100,100,jpeg!sepia,0.5
"""

from pyvips import Image

from safelight.plugin import PluginArgumentError, edit, ufloat_arg

BROWN = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]


@edit("sepia")
def sepia(image, strength, _options, _thumbnail_spec):
    share = ufloat_arg("strength", strength, 1.0)
    if share > 1:
        raise PluginArgumentError(f"expected argument 'strength' to be at most 1, got: {strength}")
    colours = image.vips[:3]  # without alpha
    brown = colours.recomb(Image.new_from_array(BROWN))
    mixed = colours * (1 - share) + brown * share
    return mixed.bandjoin(image.vips[3]) if image.vips.hasalpha() else mixed
