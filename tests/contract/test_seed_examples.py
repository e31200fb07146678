"""The examples of the 1.0 documentation, request by request.

Those with S3 run three times - at Amazon, at an endpoint of the environment, and at another one that checks
signatures - and the complete one on files, too. A root of `/srv` stands for a temporary directory.
"""

import hashlib
import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest
from PIL import Image
from s3_servers import S3Server

from safelight.config.load import Config
from safelight.errors import BadRequest, ImageNotLoaded, NoSuchFile, NoSuchKey, S3NotConfigured

SHORT = 16

S3 = 's3 key="AKIDEXAMPLE" secret="made/up" ssl=false\n'


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:SHORT]


def size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


@pytest.fixture
def example(serve, tmp_path):
    """Serve an example with its `/srv` in the temporary directory."""
    (tmp_path / "images").mkdir()
    return lambda text: serve(text.replace("/srv", str(tmp_path)))


def messages(config: Config) -> list[str]:
    return [warning.message for warning in config.warnings]


# Top level


def test_thumbnailer(example):
    assert len(example('thumbnailer url="http://2.2.2.2:1000"').config.statements) == 1


@pytest.mark.covers("s029")
def test_s3(example):
    assert messages(example(S3).config) == ["no handlers configured"]


PATHS = """
path "uri"						"#{path}"
path "hash"						"#{digest}.#{extension}"

path {
	"hash-name"					"#{digest}/#{imagename}.#{extension}"
	"structured"				"#{dirname}/#{digest}/#{basename}.#{extension}"
	"structured-name"			"#{dirname}/#{digest}/#{basename}-#{imagename}.#{extension}"
}
"""


@pytest.mark.covers("s021", "s088", "s215")
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("uri", "a/b.jpg"),
        ("hash", "{0}.jpg"),
        ("hash-name", "{0}/input.jpg"),
        ("structured", "a/{0}/b.jpg"),
        ("structured-name", "a/{0}/b-input.jpg"),
    ],
)
def test_paths(example, tmp_path, name, path):
    api = example(f"""
        {PATHS}
        put "x" {{
            store_file "input" root="/srv/images" path="{name}"
            output_store_path "input"
        }}
    """)
    stored = path.replace("{0}", digest(b"data"))
    assert line(api.put("/x/a/b.jpg", b"data")) == stored
    assert (tmp_path / "images" / stored).read_bytes() == b"data"


ENDPOINTS = """
get "thumbnail" "v1" ":path" ":operation" ":width" ":height" ":options?" {
}

put "thumbnail" "v1" ":thumbnail_class/small|large/" {
}

post {
}
"""


@pytest.mark.parametrize(
    ("method", "target", "handled"),
    [
        ("GET", "/thumbnail/v1/a.jpg/fit/100/200", True),
        ("GET", "/thumbnail/v1/a.jpg/fit/100/200/quality:5", True),
        ("GET", "/thumbnail/v1/a.jpg/fit/100", False),
        ("PUT", "/thumbnail/v1/small", True),
        ("PUT", "/thumbnail/v1/large", True),
        ("PUT", "/thumbnail/v1/medium", False),
        ("PUT", "/thumbnail/v1/smaller", False),
        ("POST", "/", True),
        ("POST", "/any/thing", True),
        ("DELETE", "/", False),
    ],
)
def test_endpoints(example, method, target, handled):
    result = example(ENDPOINTS).request(method, target, b"data")
    assert result.handled is handled
    assert not handled or line(result) == "OK"


# Sources


def test_source_file(example, tmp_path):
    api = example("""
path "myimage"	"myimage.jpg"

get "small" {
	source_file "original" root="/srv/images" path="myimage"
}
""")
    message = "error while processing image 'original': file 'myimage.jpg' not found"
    assert api.get("/small").failed(NoSuchFile) == message
    (tmp_path / "images" / "myimage.jpg").write_bytes(b"data")
    assert line(api.get("/small")) == "OK"


# Thumbnails

OPERATIONS = """
put ":operation" ":width" ":height" ":options" {
	thumbnail "input" {
		"original" operation="#{operation}" width="#{width}" height="#{height}" options="#{options}" \
quality=84 format="jpeg"
		"small"		operation="crop"	width=128	height=128	format="jpeg"
		"padded"	operation="pad"		width=128	height=128	format="png"	background-color="gray"
	}
	OUTPUT
}
"""


def test_thumbnails_in_one_request(example, jpeg):
    """The document's URI has `=` for `:` in its options; that is refused, as the original did."""
    api = example(OPERATIONS.replace("OUTPUT", 'output_image "original"'))
    answer = api.put("/pad/128/256/background-color:green", jpeg)
    assert (answer.content_type, size(answer.body)) == ("image/jpeg", (128, 256))
    assert api.specs == [
        [
            "pad,128,256,jpeg,background-color:green,quality:84",
            "crop,128,128,jpeg",
            "pad,128,128,png,background-color:gray",
        ]
    ]
    assert api.put("/pad/128/256/backgroud-color=green", jpeg).failed(BadRequest) == (
        "thumbnail spec 'original' is invalid: options spec 'backgroud-color=green' format is invalid: "
        "missing option value for key 'backgroud-color=green'"
    )


def test_padding_is_green(example, jpeg):
    api = example(OPERATIONS.replace("OUTPUT", 'output_image "original"'))
    answer = api.put("/pad/128/256/background-color:green", jpeg)
    red, green, blue = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((64, 5))
    assert green > 100
    assert max(red, blue) < 30


@pytest.mark.parametrize(
    ("name", "kind", "pixels"), [("small", "image/jpeg", (128, 128)), ("padded", "image/png", (128, 128))]
)
def test_the_other_thumbnails(example, jpeg, name, kind, pixels):
    api = example(OPERATIONS.replace("OUTPUT", f'output_image "{name}"'))
    answer = api.put("/fit/50/50/quality:1", jpeg)
    assert (answer.content_type, size(answer.body)) == (kind, pixels)


def test_the_short_form(example, jpeg):
    api = example("""
put ":operation" ":width" ":height" ":options" {
	thumbnail "input" "original" operation="#{operation}" width="#{width}" height="#{height}" \
options="#{options}" quality=84 format="jpeg"
}
""")
    assert line(api.put("/pad/128/256/background-color:green", jpeg)) == "OK"
    assert api.specs == [["pad,128,256,jpeg,background-color:green,quality:84"]]


# Stores


def test_store_file(example, tmp_path):
    api = example("""
path "imagename"	"#{name}"
path "hash"			"#{digest}"

put "store" ":name" {
	store_file "input" root="/srv/images" path="imagename"
	store_file "input" root="/srv/images" path="hash"
}
""")
    assert line(api.put("/store/hello.jpg", b"hello")) == "OK"
    assert digest(b"hello") == "2cf24dba5fb0a30e"  # the document's own example
    stored = {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()}
    assert stored == {"hello.jpg": b"hello", "2cf24dba5fb0a30e": b"hello"}


# Outputs


def test_output_image(example):
    answer = example("""
put "test" {
	output_image "input" cache-control="public, max-age=999, s-maxage=666"
}
""").put("/test", b"data")
    assert answer.body == b"data"
    assert answer.content_type == "application/octet-stream"
    assert answer.cache_control == "public, max-age=999, s-maxage=666"


def test_output_store_path(example, tmp_path):
    answer = example("""
path "out"	"test.out"

put "single" {
	store_file "input" root="/srv/images" path="out"

	output_store_path "input"
}
""").put("/single", b"data")
    assert (answer.body, answer.content_type) == (b"test.out\r\n", "text/plain")
    assert (tmp_path / "images" / "test.out").read_bytes() == b"data"


@pytest.mark.covers("s149")
def test_output_of_several_store_paths(example, tmp_path):
    (tmp_path / "images" / "test.in").write_bytes(b"sourced")
    answer = example(f"""
{S3}
path {{
	"in"	"test.in"
	"out"	"test.out"
	"out2"	"test.out2"
}}

put "multi" {{
	source_file "original" root="/srv/images" path="in"

	store_file "input" root="/srv/images" path="out"
	store_file "original" root="/srv/images" path="out2"

	output_store_path {{
		"input"
		"original"
	}}
}}
""").put("/multi", b"data")
    assert answer.body == b"test.out\r\ntest.out2\r\n"
    assert (tmp_path / "images" / "test.out").read_bytes() == b"data"
    assert (tmp_path / "images" / "test.out2").read_bytes() == b"sourced"


# With files in place of S3: the same endpoints, `bucket` as a directory


def on_disk(text: str) -> str:
    """The S3 statements of an example as file statements."""
    text = re.sub(r"(?m)(store_s3.*?)\s+public=true", r"\1", text)
    text = re.sub(r'(?m)(store_s3.*?)\s+cache-control="[^"]*"', r"\1", text)
    text = text.replace("_s3 ", "_file ")
    return text.replace('bucket="', 'root="/srv/')


URLS = """
path "hash"			"#{digest}.#{mimeextension}"
path "hash-name"	"#{digest}/#{imagename}.#{mimeextension}"

put "thumbnail" {
	thumbnail "input" {
		"small"		operation="crop"	width=128	height=128	format="jpeg"
		"tiny_png"	operation="crop"	width=32	height=32	format="png"
	}

	store_s3 "input"	bucket="mybucket"		path="hash"		 public=true
	store_s3 "small"	bucket="mybucket"		path="hash-name" public=true
	store_s3 "tiny_png"	bucket="mybucket"		path="hash-name" public=true

	output_store_url {
		"input"
		"small"
		"tiny_png"
	}
}
"""


def test_output_store_url(example, jpeg, tmp_path):
    answer = example(on_disk(URLS)).put("/thumbnail", jpeg)
    name = digest(jpeg)
    assert answer.content_type == "text/uri-list"
    assert answer.text.split("\r\n") == [
        f"file:/{name}.jpg",
        f"file:/{name}/small.jpg",
        f"file:/{name}/tiny_png.png",
        "",
    ]
    bucket = tmp_path / "mybucket"
    assert size((bucket / name / "small.jpg").read_bytes()) == (128, 128)
    assert size((bucket / name / "tiny_png.png").read_bytes()) == (32, 32)


COMPATIBILITY = """
# Compatibility API
path "compat-hash"				"#{digest}.#{mimeextension}"
path "compat-hash-name"			"#{digest}/#{imagename}.#{mimeextension}"
path "compat-structured"		"#{dirname}/#{digest}/#{basename}.#{mimeextension}"
path "compat-structured-name"	"#{dirname}/#{digest}/#{basename}-#{imagename}.#{mimeextension}"
"""

CLASSES = """
	thumbnail "input" {
		# Make limited source image for migration to on demand API
		"migration"	operation="limit"	width=2160	height=2160	format="jpeg" quality=95

		# Backend classes
		"original"	operation="crop"	width="input"	height="input"	format="jpeg" \
options="background-color:0xF0F0F0" if-image-name-on="#{name_list}"
		"search"	operation="pad"	width=162	height=162	format="jpeg" \
options="background-color:0xF0F0F0" if-image-name-on="#{name_list}"
		"brochure"	operation="pad"	width=264	height=264	format="jpeg" \
options="background-color:0xF0F0F0" if-image-name-on="#{name_list}"
	}

	# Store migartion source image into on demand API bucket
	store_s3 "migration"		bucket="mybucket_v1"		path="hash"

	# Save input image for future reprocessing
	store_s3 "input"			bucket="mybucket"	path="compat-KEY"	public=true

	# Backend classes
	store_s3 "original"			bucket="mybucket"	path="compat-KEY-name"	public=true \
cache-control="public, max-age=31557600, s-maxage=0" if-image-name-on="#{name_list}"
	store_s3 "search"			bucket="mybucket"	path="compat-KEY-name"	public=true \
cache-control="public, max-age=31557600, s-maxage=0" if-image-name-on="#{name_list}"
	store_s3 "brochure"			bucket="mybucket"	path="compat-KEY-name"	public=true \
cache-control="public, max-age=31557600, s-maxage=0" if-image-name-on="#{name_list}"

	output_store_url {
		"input"
		"original"			if-image-name-on="#{name_list}"
		"search"			if-image-name-on="#{name_list}"
		"brochure"			if-image-name-on="#{name_list}"
	}
}
"""

ON_DEMAND = """
# Thumbnail on demand API\x20
path "hash"	"#{digest}.#{mimeextension}"
path "path"	"#{path}"

put "v1" "original" {
	thumbnail "input" "original" operation="limit" width=2160 height=2160 format="jpeg" quality=95

	store_s3 "original" bucket="mybucket_v1" path="hash"

	output_store_path "original"
}

get "v1" "thumbnail" ":path" ":operation" ":width" ":height" ":options?" {
	source_s3 "original" bucket="mybucket_v1" path="path"

	thumbnail "original" "thumbnail" operation="#{operation}" width="#{width}" height="#{height}" \
options="#{options}" quality=84 format="jpeg"

	output_image "thumbnail" cache-control="public, max-age=31557600, s-maxage=0"
}
"""

COMPLETE = "".join(
    [
        S3,
        COMPATIBILITY,
        'put "thumbnail" ":name_list" ":path/.+/" {',
        CLASSES.replace("KEY", "structured"),
        'put "thumbnail" ":name_list" {',
        CLASSES.replace("KEY", "hash"),
        ON_DEMAND,
    ]
)


def test_the_complete_example_loads_as_it_is(example):
    """Nothing in it is undefined."""
    config = example(COMPLETE).config
    assert len(config.statements) == 11
    assert messages(config) == []


@pytest.mark.covers("s129", "s054")
def test_uploading_to_classes(example, jpeg, tmp_path):
    """`PUT /thumbnail/original,brochure`, as in the document's curl session."""
    api = example(on_disk(COMPLETE))
    name = digest(jpeg)
    assert api.put("/thumbnail/original,brochure", jpeg).text.split("\r\n") == [
        f"file:/{name}.jpg",
        f"file:/{name}/original.jpg",
        f"file:/{name}/brochure.jpg",
        "",
    ]
    bucket = tmp_path / "mybucket"
    assert (bucket / f"{name}.jpg").read_bytes() == jpeg
    assert size((bucket / name / "original.jpg").read_bytes()) == (64, 48)
    assert size((bucket / name / "brochure.jpg").read_bytes()) == (264, 264)
    assert size((tmp_path / "mybucket_v1" / f"{name}.jpg").read_bytes()) == (64, 48)
    assert not (bucket / name / "search.jpg").exists()


def test_uploading_to_classes_under_a_name(example, jpeg, tmp_path):
    api = example(on_disk(COMPLETE))
    name = digest(jpeg)
    assert api.put("/thumbnail/search/people/me.jpeg", jpeg).text.split("\r\n") == [
        f"file:/people/{name}/me.jpg",
        f"file:/people/{name}/me-search.jpg",
        "",
    ]
    stored = (tmp_path / "mybucket" / "people" / name / "me-search.jpg").read_bytes()
    assert size(stored) == (162, 162)


def test_uploading_to_no_known_class_still_migrates(example, jpeg):
    api = example(on_disk(COMPLETE))
    assert line(api.put("/thumbnail/none", jpeg)) == f"file:/{digest(jpeg)}.jpg"
    assert api.specs == [["limit,2160,2160,jpeg,quality:95"]]


def test_thumbnails_on_demand(example, jpeg):
    """Upload, then `GET /v1/thumbnail/<name>/fit/100/1000`, as in the document's curl session."""
    api = example(on_disk(COMPLETE))
    name = line(api.put("/v1/original", jpeg))
    assert name == f"{digest(jpeg)}.jpg"
    answer = api.get(f"/v1/thumbnail/{name}/fit/100/1000")
    assert (answer.content_type, answer.cache_control) == (
        "image/jpeg",
        "public, max-age=31557600, s-maxage=0",
    )
    assert size(answer.body) == (100, 75)
    cropped = api.get(f"/v1/thumbnail/{name}/crop/20/30/quality:50")
    assert size(cropped.body) == (20, 30)
    assert api.specs[-1] == ["crop,20,30,jpeg,quality:84"]


def test_an_unknown_name_on_demand(example):
    api = example(on_disk(COMPLETE))
    message = "error while processing image 'original': file 'nope.jpg' not found"
    assert api.get("/v1/thumbnail/nope.jpg/fit/1/1").failed(NoSuchFile) == message


@pytest.mark.parametrize("name", ["file", "url"])
def test_output_of_source_locations(example, tmp_path, name):
    (tmp_path / "images" / "a.jpg").write_bytes(b"data")
    api = example(f"""
path "p" "#{{path}}"
get "x" {{
	source_file "original" root="/srv/images" path="p"
	output_source_{name} "original"
}}
get "y" {{
	output_source_{name} "original"
}}
""")
    assert line(api.get("/x/a.jpg")) == {"file": "a.jpg", "url": "file:/a.jpg"}[name]
    assert api.get("/y").failed(ImageNotLoaded) == "image 'original' not loaded"


@pytest.mark.covers("s157")
@pytest.mark.parametrize(
    "statement", ['source_s3 "o" bucket="b" path="p"', 'store_s3 "input" bucket="b" path="p"']
)
def test_s3_statements_need_the_client(example, statement):
    api = example(f'path "p" "a"\nput {{\n{statement}\n}}')
    assert api.put("/", b"data").failed(S3NotConfigured) == "S3 client not configured"


# On S3


@dataclass(frozen=True)
class OnS3:
    """Examples at one object store. `buckets`: names there of the buckets in the examples."""

    store: S3Server
    api: Callable
    buckets: dict[str, str]
    base: str
    keeps_dots: bool

    def serve(self, text: str):
        for written, name in self.buckets.items():
            text = text.replace(f'bucket="{written}"', f'bucket="{name}"')
        text = text.replace("AKIDEXAMPLE", self.store.access_key).replace("made/up", self.store.secret_key)
        return self.api(text)

    def url(self, bucket: str, key: str) -> str:
        return self.base.replace("BUCKET", self.buckets[bucket]) + key

    def keys(self, bucket: str) -> list[str]:
        return sorted(self.store.keys(self.buckets[bucket]))

    def read(self, bucket: str, key: str) -> bytes:
        return self.store.read(self.buckets[bucket], key)


@pytest.fixture(params=["amazon", "endpoint", "checked"])
def on_s3(request, example, monkeypatch) -> OnS3:
    """The first two take every bucket name and account, so nothing in an example is replaced."""
    if request.param == "checked":
        store = request.getfixturevalue("seaweed")
        buckets = {written: store.make_bucket() for written in ("mybucket", "mybucket_v1")}
    else:
        store = request.getfixturevalue("amazon" if request.param == "amazon" else "moto")
        buckets = {written: written for written in ("mybucket", "mybucket_v1")}
        for bucket in buckets:
            empty(store, bucket)
    if request.param == "amazon":
        return OnS3(store, example, buckets, "http://BUCKET.s3.amazonaws.com/", keeps_dots=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.url)
    return OnS3(store, example, buckets, f"{store.url}/BUCKET/", keeps_dots=False)


def empty(store: S3Server, bucket: str, region: str | None = None) -> None:
    """Make a bucket, or delete everything in it."""
    located = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region else {}
    with suppress(store.client.exceptions.BucketAlreadyOwnedByYou):
        store.client.create_bucket(Bucket=bucket, **located)
    for key in store.keys(bucket):
        store.delete(bucket, key)


@pytest.mark.covers("s158")
def test_source_s3(on_s3):
    api = on_s3.serve(
        S3
        + """
path "myimage"	"myimage.jpg"

get "small" {
	source_s3 "original" bucket="mybucket" path="myimage"
}
"""
    )
    bucket = on_s3.buckets["mybucket"]
    message = f"S3 bucket '{bucket}' does not contain key 'myimage.jpg'"
    assert api.get("/small").failed(NoSuchKey) == message
    on_s3.store.write(bucket, "myimage.jpg", b"data")
    assert line(api.get("/small")) == "OK"


def test_store_s3(on_s3):
    api = on_s3.serve(
        S3
        + """
path "imagename"	"#{name}"
path "hash"			"#{digest}"

put "store" ":name" {
	store_s3 "input" bucket="mybucket" path="imagename"
	store_s3 "input" bucket="mybucket" path="hash"
}
"""
    )
    assert line(api.put("/store/hello.jpg", b"hello")) == "OK"
    stored = {key: on_s3.read("mybucket", key) for key in on_s3.keys("mybucket")}
    assert stored == {"2cf24dba5fb0a30e": b"hello", "hello.jpg": b"hello"}


@pytest.mark.covers("s163", "s167")
def test_output_store_url_of_s3(on_s3, jpeg):
    answer = on_s3.serve(S3 + URLS).put("/thumbnail", jpeg)
    name = digest(jpeg)
    keys = [f"{name}.jpg", f"{name}/small.jpg", f"{name}/tiny_png.png"]
    assert answer.content_type == "text/uri-list"
    assert answer.text == "".join(on_s3.url("mybucket", key) + "\r\n" for key in keys)
    assert on_s3.keys("mybucket") == sorted(keys)
    assert on_s3.read("mybucket", keys[0]) == jpeg
    assert [size(on_s3.read("mybucket", key)) for key in keys[1:]] == [(128, 128), (32, 32)]


@pytest.mark.covers("s160", "s161", "s162", "s163")
def test_uploading_to_classes_on_s3(on_s3, jpeg):
    """`PUT /thumbnail/original,brochure`, then the brochure as everybody gets it."""
    name = digest(jpeg)
    answer = on_s3.serve(COMPLETE).put("/thumbnail/original,brochure", jpeg)
    keys = [f"{name}.jpg", f"{name}/original.jpg", f"{name}/brochure.jpg"]
    assert answer.text == "".join(on_s3.url("mybucket", key) + "\r\n" for key in keys)
    assert on_s3.keys("mybucket") == sorted(keys)
    assert on_s3.read("mybucket", keys[0]) == jpeg
    assert size(on_s3.read("mybucket", keys[2])) == (264, 264)
    head = on_s3.store.head(on_s3.buckets["mybucket"], keys[2])
    assert head["content-type"] == "image/jpeg"
    assert head["cache-control"] == "public, max-age=31557600, s-maxage=0"
    assert on_s3.keys("mybucket_v1") == [f"{name}.jpg"]


def test_uploading_to_classes_under_a_name_on_s3(on_s3, jpeg):
    """A name without a directory makes keys that begin with a dot; only Amazon keeps it (sharp edge S39)."""
    api = on_s3.serve(COMPLETE)
    name = digest(jpeg)
    assert api.put("/thumbnail/search/people/me.jpeg", jpeg).text.split() == [
        on_s3.url("mybucket", f"people/{name}/me.jpg"),
        on_s3.url("mybucket", f"people/{name}/me-search.jpg"),
    ]
    here = "./" if on_s3.keeps_dots else ""
    assert api.put("/thumbnail/search/me.jpeg", jpeg).text.split() == [
        on_s3.url("mybucket", f"{here}{name}/me.jpg"),
        on_s3.url("mybucket", f"{here}{name}/me-search.jpg"),
    ]
    assert size(on_s3.read("mybucket", f"{here}{name}/me-search.jpg")) == (162, 162)
    assert len(on_s3.keys("mybucket")) == 4


@pytest.mark.covers("s158", "s160")
def test_thumbnails_on_demand_on_s3(on_s3, jpeg):
    """Upload, then `GET /v1/thumbnail/<name>/fit/100/1000`; pictures of the older API are there, too."""
    api = on_s3.serve(COMPLETE)
    name = line(api.put("/v1/original", jpeg))
    assert name == f"{digest(jpeg)}.jpg"
    assert on_s3.keys("mybucket_v1") == [name]
    answer = api.get(f"/v1/thumbnail/{name}/fit/100/1000")
    assert answer.content_type == "image/jpeg"
    assert answer.cache_control == "public, max-age=31557600, s-maxage=0"
    assert size(answer.body) == (100, 75)
    assert api.get(f"/v1/thumbnail/{name}/pad/50/50/background-color:green").status == 200
    missing = api.get("/v1/thumbnail/nope.jpg/fit/1/1").failed(NoSuchKey)
    assert missing == f"S3 bucket '{on_s3.buckets['mybucket_v1']}' does not contain key 'nope.jpg'"
    migrated = jpeg + b"more"
    api.put("/thumbnail/none", migrated)
    assert size(api.get(f"/v1/thumbnail/{digest(migrated)}.jpg/fit/20/20").body) == (20, 15)


@pytest.mark.covers("s166")
def test_the_session_of_the_document(example, amazon, jpeg):
    """Its bucket is in Ireland and has dots in its name; whoever has a URL gets the picture."""
    empty(amazon, "test.my.bucket", region="eu-west-1")
    empty(amazon, "mybucket_v1")
    api = example(COMPLETE.replace('bucket="mybucket"', 'bucket="test.my.bucket"'))
    urls = api.put("/thumbnail/original,brochure", jpeg).text.split()
    base = f"http://s3-eu-west-1.amazonaws.com/test.my.bucket/{digest(jpeg)}"
    assert urls == [f"{base}.jpg", f"{base}/original.jpg", f"{base}/brochure.jpg"]
    brochure = httpx.get(urls[2])
    assert brochure.headers["cache-control"] == "public, max-age=31557600, s-maxage=0"
    assert brochure.headers["content-type"] == "image/jpeg"
    assert size(brochure.content) == (264, 264)
