"""What the log shows and what it hides."""

import pytest

from safelight.server.log import _line, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("/a?hmac=0f0f&x=1", "/a?hmac=***&x=1"),
        ("X-Amz-Signature=abc&b", "X-Amz-Signature=***&b"),
        ('secret="pass123" digest', 'secret="***" digest'),
        ("{'password': 'x'}", "{'password': '***'}"),
        ("https://user:pass@host/x", "https://user:***@host/x"),
        ("/secretary/a=b https://host:80/", "/secretary/a=b https://host:80/"),
    ],
)
def test_secrets_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_message_stays_on_its_line() -> None:
    event = {"timestamp": "T", "level": "warning", "event": "a\nT error: forged\x1b[2J", "detail": "\udce9"}
    assert _line(None, "", event) == "T warning: a\\nT error: forged\\x1b[2J (detail: \\udce9)"


def test_a_trace_follows_its_line() -> None:
    event = {"timestamp": "T", "level": "error", "event": "a", "exception": "Traceback\n  hmac=1"}
    assert _line(None, "", event) == "T error: a\nTraceback\n  hmac=***"
