"""Times in the log: the tasks of reference/imagestore 9.3, whatever becomes of the request."""

import re
from collections.abc import Callable

import httpx
import pytest
from serving import Server

TASKS = """
    handling request
    handling request -> reading request body
    handling request -> validating request
    handling request -> sourcing images
    handling request -> sourcing images -> sourcing image from file: cat.jpg
    handling request -> sourcing images -> sourcing image from S3: cat.jpg
    handling request -> processing images
    handling request -> processing images -> identifying: input
    handling request -> processing images -> thumbnailing image: big, small
    handling request -> storing images
    handling request -> storing images -> storing image in file: cat.jpg
    handling request -> storing images -> storing image in S3: cat.jpg
    handling request -> sending response
    handling request -> sending response image data
"""

API = """
path "by-name" "cat.jpg"
get "guarded" {
    validate_uri_hmac "hmac" secret="pass123"
}
get "original" {
    source_file "original" root="photos" path="by-name"
    output_image "original"
}
get "s3" {
    source_s3 "original" bucket="none" path="by-name"
}
put "both" {
    identify "input"
    thumbnail "input" {
        "big" operation="fit" width=64 height=64
        "small" operation="fit" width=32 height=32
    }
    store_file "input" root="stored" path="by-name"
    store_s3 "input" bucket="none" path="by-name"
}
"""


@pytest.mark.covers("s212")
def test_every_task_is_told(start: Callable[..., Server], photo: bytes) -> None:
    """Without an `s3` statement, S3 fails at once: that takes time, too."""
    server = start("--perf-stats", api=API)
    expected = [
        ("GET", "/guarded?hmac=00", b"", 403),
        ("GET", "/original", b"", 200),
        ("GET", "/s3", b"", 500),
        ("PUT", "/both", photo, 500),
    ]
    for method, target, body, status in expected:
        assert httpx.request(method, server.url + target, content=body).status_code == status
    server.wait_for_log("handling request: PUT [/both]")
    told = re.findall(r" perf: took \d+\.\d{6} sec - (.*)", server.log)
    named = {task.partition(": ")[0] for task in told if task.startswith("handling request: ")}
    assert {task.strip() for task in TASKS.strip().splitlines()} <= {*told, *named}
