"""`validate_uri_hmac` and `validate_header_hmac` (reference/imagestore section 7)."""

import hashlib
import hmac

import pytest

from safelight.errors import ConfigError, Forbidden
from safelight.signing import sign

PREFIX = "HMAC URI authentication with digest 'sha1' failed: "
MISSING = f"{PREFIX}HMAC query string parameter 'hmac' not found"


def line(result) -> str:
    return result.text.removesuffix("\r\n")


def signed(text: str, secret: str = "pass123", digest: str = "sha1") -> str:
    return hmac.new(secret.encode(), text.encode(), digest).hexdigest()


def guarded(serve, attributes: str = "", name: str = "validate_uri_hmac", values: str = '"hmac"'):
    return serve(f"""
        get {{
            {name} {values} secret="pass123" {attributes}
            output_text "#{{query_string_options}}"
        }}
    """)


def invalid(given: str, uri: str) -> str:
    return f"{PREFIX}provided HMAC '{given}' for URI '{uri}' is not valid"


# The signed URI


@pytest.mark.covers("s179")
@pytest.mark.parametrize(
    ("uri", "signature"),
    [
        ("/hello", "cc67210148307affa1465ee5d146978b1f3278cb"),
        ("/hello?foo=bar", "d1aad080f8e744d6e60536b30a87d8ac2f76cb02"),
        ("/hello?nonce=1cebbd063f8091be", "d9393ab46832b74fa2fd50667afbd02d6c57a7ec"),
        ("/test", "55eee34055a89648101cbb3d88c9af560078920d"),
        ("/lockpicks", "a4c3fe2c9856f5df6412a04a3be877487f61d7d2"),
    ],
)
def test_the_published_signatures_are_accepted(serve, uri, signature):
    separator = "&" if "?" in uri else "?"
    api = guarded(serve)
    assert api.get(f"{uri}{separator}hmac={signature}").handled
    assert api.get(f"{uri}{separator}hmac={signature}").status == 200


def test_another_secret(serve):
    api = serve('get { validate_uri_hmac "hmac" secret="key"\n}')
    assert api.get("/small?hmac=a49182838f1b0b306614cea1d0fbcdab980717f7").status == 200


@pytest.mark.covers("s180")
@pytest.mark.parametrize("given", ["x", "cc67210148307affa1465ee5d146978b1f3278cc", signed("/hello").upper()])
def test_a_wrong_signature_names_the_canonical_uri(serve, given):
    message = guarded(serve).get(f"/hello?hmac={given}").failed(Forbidden)
    assert message == invalid(given, "/hello")


@pytest.mark.covers("s181")
@pytest.mark.parametrize("target", ["/hello", "/hello?foo=bar", "/hello?hmac", "/hello?HMAC=x"])
def test_a_missing_signature(serve, target):
    api = guarded(serve)
    assert api.get(target).failed(Forbidden) == MISSING
    assert api.counters.values == {}


@pytest.mark.covers("s182")
def test_an_empty_signature_is_not_valid(serve):
    assert guarded(serve).get("/hello?hmac=").failed(Forbidden) == invalid("", "/hello")


@pytest.mark.parametrize(
    ("target", "canonical"),
    [
        ("/h?baz=1&foo=2&hmac=x&nonce=3", "/h?foo=2&nonce=3"),
        ("/h?foo=hmac=5&hmac=1", "/h?foo=hmac=5"),
        ("/h?xhmac=1&hmac=3", "/h?xhmac=1"),
        ("/h?hmac=x&hmac=y", "/h?hmac=y"),
        ("/h?hmac=x", "/h"),
        ("/h?hmac=x&", "/h"),
        ("/h?baz=1&hmac=x", "/h"),
        ("/h?b=2&hmac=x&a=1", "/h?b=2&a=1"),
        ("/h/%C5%82+%2f?a=%20+&hmac=x", "/h/%C5%82+%2f?a=%20+"),
    ],
)
def test_the_canonical_uri(serve, target, canonical):
    """Neither sorted nor encoded anew; of adjacent duplicates one stays (sharp edge S32)."""
    api = guarded(serve, 'exclude="baz"')
    given = "y" if "hmac=y" in target else target.rpartition("hmac=")[2].partition("&")[0]
    assert api.get(target).failed(Forbidden) == invalid(given, canonical)


@pytest.mark.covers("s183")
def test_excluded_parameters_do_not_change_the_signature(serve):
    api = guarded(serve, 'exclude="baz, nonce"')
    signature = signed("/h?foo=2")
    for query in ("foo=2", "baz=1&foo=2&nonce=5", "foo=2&baz=", "nonce=1&foo=2"):
        assert api.get(f"/h?{query}&hmac={signature}").status == 200, query
    api.get(f"/h?other=1&foo=2&hmac={signature}").failed(Forbidden)


@pytest.mark.covers("s186")
def test_the_order_of_parameters_matters(serve):
    api = guarded(serve)
    signature = signed("/h?a=1&b=2")
    assert api.get(f"/h?a=1&b=2&hmac={signature}").status == 200
    assert api.get(f"/h?hmac={signature}&a=1&b=2").status == 200
    api.get(f"/h?b=2&a=1&hmac={signature}").failed(Forbidden)


def test_keys_are_plain_text_in_the_canonical_uri(serve):
    """Sharp edge S32: they were regular expressions."""
    api = guarded(serve, 'exclude="a.c"')
    assert api.get("/h?abc=1&a.c=2&hmac=x").failed(Forbidden) == invalid("x", "/h?abc=1")


@pytest.mark.covers("s187")
def test_captures_cannot_fake_the_uri(serve):
    api = serve("""
        get ":request_uri" "&:uri?" {
            validate_uri_hmac "hmac" secret="pass123"
        }
    """)
    api.get(f"/%2Fhello?uri=/hello&hmac={signed('/hello')}").failed(Forbidden)


# What templates see afterwards


@pytest.mark.covers("s184", "s185")
@pytest.mark.parametrize(
    ("attributes", "options"),
    [
        ("", "a:1,b:2"),
        ('remove=""', "a:1,b:2,hmac:{0}"),
        ('remove="a , hmac"', "b:2"),
        ('remove="b"', "a:1,hmac:{0}"),
        ('exclude="c"', "a:1,b:2"),  # exclude does not imply remove
    ],
)
def test_removed_parameters_vanish_from_the_options_but_stay_signed(serve, attributes, options):
    signature = signed("/h?a=1&b=2")
    answer = guarded(serve, attributes).get(f"/h?a=1&b=2&hmac={signature}")
    assert line(answer) == options.replace("{0}", signature)


def test_captured_parameters_are_not_removed(serve):
    api = serve("""
        get "&:a" "&:hmac" {
            validate_uri_hmac "hmac" secret="pass123" remove="a,hmac"
            output_text "#{a} #{hmac}"
        }
    """)
    signature = signed("/?a=1")
    assert line(api.get(f"/?a=1&hmac={signature}")) == f"1 {signature}"


# A signed header


@pytest.mark.covers("s188")
@pytest.mark.parametrize("written", ["X-Original-URI", "x-original-uri", "x_original_uri"])
@pytest.mark.parametrize("sent", ["X-Original-URI", "x-original-uri", "X-ORIGINAL-URI"])
def test_a_header_in_any_case(serve, written, sent):
    api = guarded(serve, name="validate_header_hmac", values=f'"{written}" "hmac"')
    signature = signed("/original")
    assert api.get(f"/other?hmac={signature}", {sent: "/original"}).status == 200
    message = api.get("/other?hmac=x", {sent: "/original?a=1&hmac=x"}).failed(Forbidden)
    assert message == invalid("x", "/original?a=1")


@pytest.mark.covers("s188")
@pytest.mark.parametrize("header", ["x_original_uri", "Content-Type", "Content-Length"])
def test_a_missing_header_is_named_in_upper_case(serve, header):
    """Content type and length have no HTTP_ form, so they are never there."""
    api = guarded(serve, name="validate_header_hmac", values=f'"{header}" "hmac"')
    shown = header.upper().replace("_", "-")
    message = api.get("/h?hmac=x", {"Content-Type": "a", "Content-Length": "0"}).failed(Forbidden)
    assert message == f"{PREFIX}header '{shown}' not found in request body for HMAC verificaton"
    assert api.counters.values == {"total_hmac_validations": 1}


def test_the_signature_is_looked_for_before_the_header(serve):
    api = guarded(serve, name="validate_header_hmac", values='"X-URI" "hmac"')
    assert api.get("/h").failed(Forbidden) == MISSING


# Lockpicks and several validators


@pytest.mark.covers("s189")
def test_a_lockpick_passes_without_the_header(serve):
    """Sharp edge S35."""
    api = guarded(serve, 'lockpicks="open , sesame"', "validate_header_hmac", '"X-URI" "hmac"')
    for pick in ("open", "sesame"):
        assert line(api.get(f"/h?hmac={pick}&a=1")) == "a:1"
    api.get("/h?hmac=", {"X-URI": "/h"}).failed(Forbidden)
    api.get("/h?hmac=open,sesame", {"X-URI": "/h"}).failed(Forbidden)


def test_all_validators_must_pass(serve):
    api = serve("""
        get {
            validate_uri_hmac "one" secret="1" exclude="two"
            validate_uri_hmac "two" secret="2" exclude="one"
        }
    """)
    one, two = signed("/h", "1"), signed("/h", "2")
    assert api.get(f"/h?one={one}&two={two}").status == 200
    assert "'two' not found" in api.get(f"/h?one={one}").failed(Forbidden)
    assert "'one' not found" in api.get(f"/h?two={two}").failed(Forbidden)


def test_validations_are_counted(serve):
    api = guarded(serve, 'lockpicks="pick"')
    for given in (signed("/h"), "bad", "pick"):
        api.get(f"/h?hmac={given}")
    api.get("/h")
    assert api.counters.values == {
        "total_hmac_validations": 3,
        "total_valid_hmac": 1,
        "total_invalid_hmac": 1,
        "total_lockpick_hmac": 1,
    }


# Digests and secrets


@pytest.mark.covers("s191")
@pytest.mark.parametrize("digest", ["sha256", "SHA256", "Sha512", "md5"])
def test_a_digest_is_printed_as_written(serve, digest):
    api = guarded(serve, f'digest="{digest}"')
    assert api.get(f"/h?hmac={signed('/h', digest=digest.lower())}").status == 200
    message = api.get("/h?hmac=x").failed(Forbidden)
    assert message.startswith(f"HMAC URI authentication with digest '{digest}' failed: ")


def test_an_empty_secret_is_accepted(serve):
    api = serve('get { validate_uri_hmac "hmac" secret=""\n}')
    assert api.get(f"/h?hmac={signed('/h', secret='')}").status == 200


def test_a_secret_is_no_template(serve):
    api = serve('get { validate_uri_hmac "hmac" secret="#{path}"\n}')
    assert api.get(f"/h?hmac={signed('/h', secret='#{path}')}").status == 200


@pytest.mark.covers("s042", "s043")
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("validate_uri_hmac", "expected hmac"),
        ("validate_header_hmac", "expected header name"),
        ('validate_header_hmac "h"', "expected hmac"),
        ('validate_uri_hmac "h" "x" secret="s"', 'unexpected values: "x"'),
        ('validate_uri_hmac "h"', 'no secret key given for validate_hmac (like secret="0f0f0...")'),
        (
            'validate_uri_hmac "h" secret=null',
            'no secret key given for validate_hmac (like secret="0f0f0...")',
        ),
        (
            'validate_uri_hmac "h" secret=false',
            'no secret key given for validate_hmac (like secret="0f0f0...")',
        ),
        ('validate_uri_hmac "h" secret="s" digest="foo"', "digest 'foo' is not supported"),
        ('validate_uri_hmac "h" secret="s" salt="x"', "unexpected attributes: 'salt'"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_what_is_wrong_with_a_validator_stops_the_load(serve, statement, message, lenient):
    """Also for the drop-in commands: an endpoint must not be left open by a misprint."""
    with pytest.raises(ConfigError) as error:
        serve(f"get {{\n{statement}\n}}", lenient=lenient)
    assert message in error.value.message


def test_digests_without_a_fixed_length_are_not_supported(serve):
    assert "shake_128" in hashlib.algorithms_available
    with pytest.raises(ConfigError, match="digest 'shake_128' is not supported"):
        guarded(serve, 'digest="shake_128"')


@pytest.mark.parametrize("addition", [";expires=99999999999", ";w=7000", "?hmac=x"])
def test_nothing_can_be_added_to_a_signed_url_behind_other_separators(serve, addition):
    """`;` separates parameters for the query parser, and a second `?` begins nothing."""
    api = serve(
        'get "t" "&:w?" {\n validate_uri_hmac "hmac" secret="s" expires="expires"\n output_text "#{w}"\n}'
    )
    signed_url = sign("/t?w=1&expires=1", "s")
    assert isinstance(api.get(signed_url).outcome, Forbidden)
    assert isinstance(api.get(signed_url + addition).outcome, Forbidden)
    head, _, tail = sign("/t?w=1&expires=99999999999", "s").partition("&")
    assert api.get(f"{head}&{tail}").status == 200
    assert isinstance(api.get(f"{head}{addition}&{tail}").outcome, Forbidden)


def test_the_expiry_must_be_signed(serve):
    for values in ('"h" secret="s" expires="e" exclude="a, e"', '"h" secret="s" expires="h"'):
        with pytest.raises(ConfigError, match="must be signed"):
            serve(f"get {{\n validate_uri_hmac {values}\n}}")
