"""Method `cut`: keep the middle of the image, then fit it into the wanted size.

/thumbnail/cut,16,24,png
/thumbnail/cut,16,24,png,box-x:0,box-y:0,box-w:0.5,box-h:0.5
"""

from safelight.plugin import float_arg, thumbnailing_method


@thumbnailing_method("cut")
def cut(image, width, height, options):
    x = float_arg("box-x", options.get("box-x"), 0.25)
    y = float_arg("box-y", options.get("box-y"), 0.25)
    w = float_arg("box-w", options.get("box-w"), 0.5)
    h = float_arg("box-h", options.get("box-h"), 0.5)
    region = image.rel_to_px_box(*image.normalize_region(x, y, w, h))
    return image.crop(*region).resize_to_fit(width, height)
