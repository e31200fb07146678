"""Method `blur`: blur the middle of the image, then fit it into the wanted size.

/thumbnail/blur,16,24,png
/thumbnail/blur,16,24,png,box-x:0,box-y:0,box-w:1,box-h:1
"""

from safelight.plugin import float_arg, thumbnailing_method


@thumbnailing_method("blur")
def blur(image, width, height, options):
    x = float_arg("box-x", options.get("box-x"), 0.25)
    y = float_arg("box-y", options.get("box-y"), 0.25)
    w = float_arg("box-w", options.get("box-w"), 0.5)
    h = float_arg("box-h", options.get("box-h"), 0.5)
    region = image.rel_to_px_box(*image.normalize_region(x, y, w, h))
    return image.blur_region(*region, radius=0, sigma=2.5).resize_to_fit(width, height)
