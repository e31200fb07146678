"""Encoders: reference 7.2, 11, 6.4 and the decisions about defaults."""

from dataclasses import replace

import numpy as np
import pytest
from image_makers import (
    DATA,
    DEFAULTS,
    alpha_a,
    array,
    distance,
    error_of,
    flat,
    make_one,
    oriented,
    photo_p,
    photo_q,
    pillow,
    pixels,
    png,
    save,
    srgb_profile,
    swapped_profile,
)
from PIL import Image as PillowImage
from PIL import JpegImagePlugin
from pyvips import Image

from safelight.errors import BadRequest
from safelight.image.formats import OUTPUT_FORMATS
from safelight.image.settings import ImageSettings
from safelight.image.speed import SPEEDS


def length(spec: str, settings: ImageSettings = DEFAULTS) -> int:
    return len(make_one(photo_p(), spec, settings).data)


@pytest.mark.covers("t092")
@pytest.mark.parametrize(
    ("name", "mime_type", "kind"),
    [
        ("jpeg", "image/jpeg", "JPEG"),
        ("jpg", "image/jpeg", "JPEG"),
        ("JpEg", "image/jpeg", "JPEG"),
        ("png", "image/png", "PNG"),
        ("gif", "image/gif", "GIF"),
        ("webp", "image/webp", "WEBP"),
        ("tiff", "image/tiff", "TIFF"),
        ("tif", "image/tiff", "TIFF"),
        ("avif", "image/avif", "AVIF"),
    ],
)
def test_formats(name: str, mime_type: str, kind: str) -> None:
    output = make_one(photo_p(), f"fit,64,64,{name}")
    assert output.mime_type == mime_type
    assert pillow(output.data).format == kind
    assert distance(array(output.data), pixels(photo_p(), "fit,64,64,png")) < 12


@pytest.mark.covers("t055")
@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_input_format(name: str) -> None:
    data = save(PillowImage.new("RGB", (20, 20), "red"), name)
    assert pillow(make_one(data, "fit,10,10,input").data).format == name


@pytest.mark.covers("t055")
@pytest.mark.parametrize("name", ["BMP", "TGA", "PPM"])
def test_input_format_without_encoder_becomes_png(name: str) -> None:
    data = save(PillowImage.new("RGB", (20, 20), "red"), name)
    assert make_one(data, "fit,10,10,input").mime_type == "image/png"


@pytest.mark.covers("t093")
@pytest.mark.parametrize("name", ["xyz", "INPUT", "svg", "pdf", "label", "text", "http"])
def test_unknown_format(name: str) -> None:
    error = error_of(photo_p(), f"fit,16,16,{name}")
    assert isinstance(error, BadRequest)
    assert error.message == f"unknown format: {name.upper()}"


@pytest.mark.covers("t083")
def test_default_jpeg_quality_is_85() -> None:
    default = length("fit,128,128,jpeg")
    assert length("fit,128,128,jpeg,quality:84") < default == length("fit,128,128,jpeg,quality:85")
    assert length("fit,128,128,jpeg,quality:86") > default
    assert length("fit,128,128,jpeg", replace(DEFAULTS, jpeg_quality=50)) == length(
        "fit,128,128,jpeg,quality:50"
    )


@pytest.mark.covers("t084")
@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_size_grows_with_quality(name: str) -> None:
    low, middle, high = (length(f"fit,128,128,{name},quality:{q}") for q in (10, 80, 90))
    assert low < middle < high


@pytest.mark.covers("t085")
@pytest.mark.parametrize(("quality", "sampling"), [(85, 2), (89, 2), (90, 0), (100, 0)])
def test_chroma_subsampling(quality: int, sampling: int) -> None:
    image = pillow(make_one(photo_p(), f"fit,128,128,jpeg,quality:{quality}").data)
    assert JpegImagePlugin.get_sampling(image) == sampling


@pytest.mark.covers("t086")
def test_png_quality_digits() -> None:
    assert length("fit,128,128,png,quality:90") < length("fit,128,128,png,quality:50")
    assert length("fit,128,128,png,quality:50") < length("fit,128,128,png,quality:10")


@pytest.mark.covers("t087")
def test_png_default_can_be_95() -> None:
    drop_in = replace(DEFAULTS, png_quality=95)
    assert length("fit,128,128,png", drop_in) == length("fit,128,128,png,quality:95")
    assert length("fit,128,128,png") != length("fit,128,128,png,quality:95")


@pytest.mark.covers("t088")
@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        *(("jpeg", "85.7", "85"), ("jpeg", "abc", "0"), ("jpeg", "900", "100"), ("jpeg", "-5", "0")),
        *(("png", "950", "99"), ("webp", "101", "100"), ("avif", "0", "1"), ("png", "9x", "9")),
    ],
)
def test_quality_texts(name: str, text: str, same: str) -> None:
    assert length(f"fit,64,64,{name},quality:{text}") == length(f"fit,64,64,{name},quality:{same}")


@pytest.mark.covers("t089")
@pytest.mark.parametrize(
    ("name", "progressive"),
    [("JPEGInterlace", True), ("LineInterlace", True), ("PlaneInterlace", True), ("NoInterlace", False)],
)
def test_progressive_jpeg(name: str, progressive: bool) -> None:
    image = pillow(make_one(photo_p(), f"fit,128,128,jpeg,interlace:{name}").data)
    assert bool(image.info.get("progressive")) is progressive


@pytest.mark.covers("t089")
def test_baseline_jpeg_by_default_and_interlaced_png() -> None:
    assert "progressive" not in pillow(make_one(photo_p(), "fit,128,128,jpeg").data).info
    assert make_one(photo_p(), "fit,16,16,png,interlace:PNGInterlace").data[28] == 1
    assert make_one(photo_p(), "fit,16,16,png").data[28] == 0
    make_one(photo_p(), "fit,16,16,gif,interlace:GIFInterlace")


@pytest.mark.covers("t090")
@pytest.mark.parametrize("name", ["jpeginterlace", "x"])
def test_bad_interlace_comes_before_the_format(name: str) -> None:
    error = error_of(photo_p(), f"fit,16,16,xyz,interlace:{name}")
    assert isinstance(error, BadRequest)
    assert error.message == f"unsupported interlace: {name}"


@pytest.mark.covers("t091")
def test_8_bit_output() -> None:
    deep = save(PillowImage.fromarray(np.full((30, 30), 40_000, np.uint16)), "PNG")
    for data in (photo_q(), deep, flat(20, 20, (1, 2, 3))):
        assert make_one(data, "fit,16,16,png").data[24] == 8


@pytest.mark.covers("t095", "t096")
@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp"])
def test_alpha_is_flattened_on_white(name: str) -> None:
    result = pixels(alpha_a(), f"fit,128,128,{name},quality:95")
    assert result.shape[2] == 3
    assert np.abs(result[32, 32] - 255).max() <= (0 if name == "png" else 3)
    assert np.abs(result[64, 64]).max() <= 3


@pytest.mark.covers("t097")
@pytest.mark.parametrize("name", ["png", "webp", "gif", "tiff", "avif"])
@pytest.mark.parametrize("colour", ["none", "transparent", "0x0000"])
def test_none_keeps_alpha(name: str, colour: str) -> None:
    result = pixels(alpha_a(), f"fit,64,64,{name},background-color:{colour}")
    assert result[16, 16, 3] <= 2
    assert result[32, 32, 3] >= 253
    assert np.abs(result[32, 32, :3]).max() <= 3


def test_hidden_colours_do_not_bleed() -> None:
    result = pixels(alpha_a(), "fit,33,33,png,background-color:none")
    visible = result[result[..., 3] > 8]
    assert visible[:, 0].max() <= 30, "the transparent red of A shows"


@pytest.mark.covers("t095")
def test_none_is_black_in_a_jpeg() -> None:
    assert np.abs(pixels(alpha_a(), "fit,128,128,jpeg,background-color:none")[32, 32]).max() <= 3


@pytest.mark.covers("t098")
@pytest.mark.parametrize("text", ["0xff0000", "red", "0xf00"])
def test_background_of_alpha(text: str) -> None:
    assert tuple(pixels(alpha_a(), f"fit,128,128,png,background-color:{text}")[32, 32]) == (255, 0, 0)


def test_translucent_background_is_composited_once() -> None:
    result = pixels(alpha_a(), "pad,200,128,png,background-color:0xff000088")
    assert tuple(result[5, 5]) == (255, 0, 0, 0x88)
    assert np.abs(result[5, 100] - (255, 0, 0, 0x88)).max() <= 1
    assert tuple(result[64, 100]) == (0, 0, 0, 255)


@pytest.mark.covers("t100")
def test_colours_are_parsed_only_when_needed() -> None:
    make_one(photo_p(), "fit,16,16,png,background-color:ff11")
    make_one(photo_p(), "pad,509,719,png,background-color:ff11")
    for data, spec in (
        (photo_p(), "pad,16,16,png"),
        (alpha_a(), "fit,16,16,png"),
        (alpha_a(), "blah,1,1,x!nope"),
    ):
        error = error_of(data, f"{spec.split('!')[0]},background-color:ff11")
        assert isinstance(error, BadRequest)
        assert error.message == "invalid color name: ff11"


def test_grey_alpha() -> None:
    samples = PillowImage.new("LA", (20, 20), (50, 0))
    assert tuple(pixels(save(samples, "PNG"), "fit,10,10,png,background-color:red")[5, 5]) == (255, 0, 0)
    assert pixels(save(samples, "PNG"), "fit,10,10,png,background-color:none")[5, 5, 3] == 0


@pytest.mark.covers("t101")
@pytest.mark.parametrize("name", list(OUTPUT_FORMATS))
def test_metadata_is_gone(name: str) -> None:
    exif = PillowImage.Exif()
    exif[0x010F] = "SecretCamera"
    source = PillowImage.new("RGB", (40, 40), "red")
    data = save(
        source, "JPEG", exif=exif, icc_profile=srgb_profile(), comment="SecretComment", xmp=b"<SecretXmp/>"
    )
    assert data.count(b"Secret") == 3
    output = make_one(data, f"fit,20,20,{name}").data
    assert b"Secret" not in output
    image = pillow(output)
    assert not image.info.get("icc_profile")
    assert 0x010F not in image.getexif()


@pytest.mark.covers("t102")
def test_density_is_kept() -> None:
    for spec in ("fit,128,128,jpeg", "crop,128,128,png", "pad,128,128,tiff", "fit,128,128,jpeg!rotate,30"):
        across, down = pillow(make_one(photo_p(), spec).data).info["dpi"]
        assert abs(across - 200) < 0.5
        assert abs(down - 200) < 0.5


@pytest.mark.covers("t102")
def test_jpegs_have_a_jfif_marker() -> None:
    data = make_one(photo_q(), "fit,128,128,jpeg").data
    assert data[:11] == b"\xff\xd8\xff\xe0\0\x10JFIF\0"
    assert data.count(b"JFIF") == 1
    unknown = save(PillowImage.new("RGB", (9, 9)), "GIF")
    assert "dpi" not in pillow(make_one(unknown, "fit,9,9,jpeg").data).info


def test_the_health_check_picture_is_over_300_bytes() -> None:
    for interlace in ("", ",interlace:JPEGInterlace"):
        data = make_one(flat(8, 8, (255, 0, 0)), f"crop,4,4,jpeg{interlace}").data
        assert b"JFIF" in data
        assert len(data) > 300 or interlace


@pytest.mark.covers("t104")
@pytest.mark.parametrize("adobe", [True, False])
@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_cmyk_has_right_colours(name: str, adobe: bool) -> None:
    image = PillowImage.new("CMYK", (40, 40), (0, 255, 255, 0))
    data = save(image, "JPEG" if adobe else "TIFF", **({"quality": 95} if adobe else {}))
    output = make_one(data, f"fit,20,20,{name}").data
    assert pillow(output).mode == "RGB"
    red, green, blue = array(output)[10, 10]
    assert red > 200
    assert green < 80
    assert blue < 80


def test_cmyk_white_and_black() -> None:
    for ink, low, high in (((0, 0, 0, 0), 250, 255), ((0, 0, 0, 255), 0, 60)):
        data = save(PillowImage.new("CMYK", (40, 40), ink), "JPEG", quality=95)
        level = pixels(data, "fit,20,20,png")[10, 10]
        assert low <= level.min() <= level.max() <= high


def test_a_foreign_profile_is_converted() -> None:
    image = PillowImage.new("RGB", (40, 40), (255, 0, 0))
    for name in ("JPEG", "PNG"):
        data = save(image, name, icc_profile=swapped_profile())
        for spec in ("fit,20,20,png", "fit,20,20,png!rectangle,0,0,0.1,0.1", "pad,40,20,png"):
            red, green, blue = pixels(data, spec)[10, 20 if "pad" in spec else 10]
            assert green > 240, "this profile's red is sRGB's green"
            assert red < 20
            assert blue < 20


def test_drawn_colours_are_not_converted() -> None:
    data = save(PillowImage.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG", icc_profile=swapped_profile())
    for spec in ("fit,20,20,png,background-color:red", "fit,20,20,png,background-color:red!rotate,90"):
        assert tuple(pixels(data, spec)[10, 10]) == (255, 0, 0)
    opaque = save(PillowImage.new("RGB", (40, 40)), "PNG", icc_profile=swapped_profile())
    assert tuple(pixels(opaque, "pad,40,20,png,background-color:red")[0, 0]) == (255, 0, 0)


@pytest.mark.parametrize("profile", [b"junk", b"", b"\0" * 200, srgb_profile()[:150], srgb_profile()])
def test_useless_profiles_are_ignored(profile: bytes) -> None:
    data = save(PillowImage.new("RGB", (40, 40), (200, 100, 50)), "PNG", icc_profile=profile)
    assert (pixels(data, "fit,20,20,png") == (200, 100, 50)).all()
    cmyk = save(PillowImage.new("CMYK", (40, 40), (0, 255, 255, 0)), "TIFF", icc_profile=profile)
    assert pixels(cmyk, "fit,20,20,png")[10, 10, 0] > 200
    grey = save(PillowImage.new("L", (40, 40), 77), "PNG", icc_profile=profile)
    assert (pixels(grey, "fit,20,20,png") == 77).all()


@pytest.mark.covers("t103")
def test_orientation_can_be_left_alone() -> None:
    stored = replace(DEFAULTS, auto_orient=False)
    assert pixels(oriented(6), "limit,99,99,png", stored).shape == (64, 48, 3)
    output = make_one(oriented(6), "limit,99,99,jpeg", stored).data
    assert 0x0112 not in pillow(output).getexif()


@pytest.mark.covers("t103")
@pytest.mark.parametrize("name", [name.lower() for name in OUTPUT_FORMATS])
@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize(("orientation", "auto_orient"), [(3, True), (6, True), (6, False)])
def test_no_viewer_turns_an_output_again(name: str, speed: str, orientation: int, auto_orient: bool) -> None:
    settings = replace(DEFAULTS, auto_orient=auto_orient)
    for spec in (f"limit,99,99,{name},speed:{speed}", f"fit,30,30,{name},speed:{speed}!rotate,90"):
        output = make_one(oriented(orientation), spec, settings)
        found = Image.new_from_buffer(output.data, "")
        assert (found.width, found.height) == (output.width, output.height)
        assert not found.get_typeof("orientation") or found.get("orientation") == 1
        assert pillow(output.data).getexif().get(0x0112, 1) == 1


def test_lossless_formats_keep_flat_colours() -> None:
    data = png(np.full((9, 9, 3), (12, 34, 56)))
    for name in ("png", "tiff", "gif"):
        assert (pixels(data, f"fit,9,9,{name}") == (12, 34, 56)).all()


@pytest.mark.parametrize(("name", "closeness"), [("jpeg", 4), ("webp", 4), ("avif", 4), ("gif", 7)])
def test_default_qualities_look_good(name: str, closeness: float) -> None:
    data = (DATA / "astronaut.jpg").read_bytes()
    assert distance(pixels(data, f"fit,300,300,{name}"), pixels(data, "fit,300,300,png")) < closeness
