"""Signature Version 4 of S3 requests without a body.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. Botocore signs by the same rules in four
times the CPU time, a tenth of what a photo takes to decode; the tests compare the two.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Protocol

_ALGORITHM = "AWS4-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()


class Credentials(Protocol):
    """What botocore's frozen credentials hold; `token` is None for those that do not end."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs requests for buckets of one region. Threads may share it.

    Args:
        region: as AWS names it, `us-east-1` for one; kept as `region`.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self._kept: tuple[str, str, bytes] = "", "", b""

    def signed(
        self,
        method: str,
        host: str,
        path: str,
        headers: Mapping[str, str],
        credentials: Credentials,
        query: str = "",
    ) -> dict[str, str]:
        """The headers to send: those given, and the ones that prove who asks.

        Args:
            method: GET or HEAD.
            host: as the header `Host` says it.
            path: percent-encoded.
            headers: others, all of which are signed.
            credentials: whose key signs.
            query: what stands behind the path's `?`, percent-encoded, in the order of its names.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        sent = {"Host": host, **headers, "X-Amz-Content-SHA256": _NO_BODY, "X-Amz-Date": now}
        if credentials.token:
            sent["X-Amz-Security-Token"] = credentials.token
        lines = sorted((name.lower(), " ".join(value.split())) for name, value in sent.items())
        names = ";".join(name for name, _ in lines)
        canonical = "\n".join([method, path, query, *map(":".join, lines), "", names, _NO_BODY])
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{now}\n{scope}\n{digest}".encode()
        signature = hmac.new(self._key(credentials.secret_key, now[:8]), text, "sha256").hexdigest()
        sent["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return sent

    def _key(self, secret: str, day: str) -> bytes:
        """The key of a day, made once."""
        kept_secret, kept_day, key = self._kept
        if (kept_secret, kept_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._kept = secret, day, key
        return key
