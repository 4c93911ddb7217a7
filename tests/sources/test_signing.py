"""Requests are signed as botocore signs them."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from fastdup_dagster.sources.listing import query
from fastdup_dagster.sources.signing import Signer

_BARE = Credentials("AKIDEXAMPLE", "secret/of+tests").get_frozen_credentials()
_PASSING = Credentials("ASIAEXAMPLE", "another", "a/token==").get_frozen_credentials()
_ETAG = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def _by_botocore(
    method: str, host: str, path: str, headers: dict[str, str], credentials: Any, query: str = ""
) -> dict[str, str]:
    request = AWSRequest(method, f"https://{host}{path}" + (f"?{query}" if query else ""), headers)
    S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    return dict(request.headers)


def _the_same_second(ours: Any, theirs: Any) -> tuple[dict[str, str], dict[str, str]]:
    while True:
        found = ours(), theirs()
        if found[0]["X-Amz-Date"] == found[1]["X-Amz-Date"]:
            return found


@given(
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from(["bucket.s3.amazonaws.com", "localhost:9000"]),
    st.text(min_size=1).filter(lambda key: not any(0xD800 <= ord(letter) < 0xE000 for letter in key)),
    st.dictionaries(st.sampled_from(["Range", "If-Match"]), _ETAG),
    st.sampled_from([_BARE, _PASSING]),
)
def test_a_signature_is_the_one_that_botocore_makes(method, host, key, headers, credentials):
    path = f"/bucket/{quote(key, safe='/~')}"
    signer = Signer("eu-central-1")
    ours, theirs = _the_same_second(
        lambda: signer.signed(method, host, path, headers, credentials),
        lambda: _by_botocore(method, host, path, headers, credentials),
    )
    assert ours.pop("Host") == host
    assert ours == theirs


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["", "/"]), st.sampled_from([None, "a+/="]))
def test_a_listing_is_signed_with_its_query(prefix, delimiter, token):
    signer, asked = Signer("eu-central-1"), query(prefix, delimiter, 1000, token, prefix)
    ours, theirs = _the_same_second(
        lambda: signer.signed("GET", "localhost:9000", "/bucket", {}, _BARE, asked),
        lambda: _by_botocore("GET", "localhost:9000", "/bucket", {}, _BARE, asked),
    )
    assert ours["Authorization"] == theirs["Authorization"]


def test_other_credentials_and_another_day_sign_with_another_key(monkeypatch: pytest.MonkeyPatch):
    signer = Signer("eu-central-1")
    given_: tuple[Any, ...] = ("GET", "localhost:9000", "/bucket/key", {})
    signer.signed(*given_, _BARE)
    ours, theirs = _the_same_second(lambda: signer.signed(*given_, _PASSING), lambda: _by_botocore(*given_, _PASSING))
    assert ours["Authorization"] == theirs["Authorization"]
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2031, 2, 3, 4, 5, 6, 0, 34, 0)))
    later = signer.signed(*given_, _PASSING)["Authorization"]
    assert later == Signer("eu-central-1").signed(*given_, _PASSING)["Authorization"]
    assert "/20310203/" in later
