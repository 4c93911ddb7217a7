"""How the buckets of one endpoint are reached: clients, hosts, regions, connections, credentials."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fastdup_dagster.sources.remote_errors import EndpointError, NoCredentialsError
from fastdup_dagster.sources.signing import Signer

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool, PoolManager

CONNECTIONS = 32
_CONNECT_SECONDS, _READ_SECONDS = 10, 60


@dataclass(frozen=True)
class Bucket:
    """How a bucket is reached.

    Attributes:
        client: botocore's, for the region of the bucket.
        host: as the header `Host` says it.
        path: that its keys are appended to.
        before: what a request has before the path: scheme and host where a proxy wants the whole URL.
        pool: connections to its host.
        signer: for its region.
    """

    client: Any
    host: str
    path: str
    before: str
    pool: HTTPConnectionPool
    signer: Signer


class Buckets:
    """The buckets of one endpoint, with the credentials of this process. Threads may share it.

    Args:
        endpoint: URL of the server; None for that of the AWS settings.

    Raises:
        EndpointError: if that is no URL, or holds a password.
        NoCredentialsError: if the AWS chain finds none.
    """

    def __init__(self, endpoint: str | None) -> None:
        import botocore.session  # here, because it is slow to import and most runs are local
        from botocore.exceptions import BotoCoreError

        self._given = endpoint
        try:
            self._session = botocore.session.get_session()
            self._credentials = self._session.get_credentials()
            self._client = self._make_client(None)
            _check(self._client.meta.endpoint_url)
        except ValueError:  # whose text repeats the URL, whatever is in it
            where = f"{endpoint} is" if endpoint else "the endpoint of the AWS settings is"
            check = "the server of the minio:// URL" if endpoint else "AWS_ENDPOINT_URL"
            raise EndpointError(
                f"{where} no URL of a server: check {check}; expected http://host:port or https://host"
            ) from None
        except BotoCoreError as error:  # a profile that is not there, a role that cannot be taken on
            raise NoCredentialsError(f"the AWS settings of this process cannot be used: {error}") from error
        if "@" in urlsplit(self._client.meta.endpoint_url).netloc:
            raise EndpointError(
                f"the URL of {self.endpoint} holds a user or password, which would end in logs: put credentials where "
                "the AWS tools look for them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
            )
        if self._credentials is None:
            raise NoCredentialsError(
                f"no credentials for {self.endpoint}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or run where a role gives them"
            )
        self._lock = threading.Lock()
        self._reached: dict[str, Bucket] = {}

    @property
    def endpoint(self) -> str:
        """Scheme, host and port; never a user or password."""
        parts = urlsplit(self._client.meta.endpoint_url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def credentials(self) -> Any:
        """The keys as they are now: botocore renews those of a role.

        Raises:
            NoCredentialsError: if they cannot be renewed.
        """
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            return self._credentials.get_frozen_credentials()
        except HTTPClientError:
            raise
        except (BotoCoreError, ClientError, RuntimeError) as error:  # a RuntimeError where they stay expired
            raise NoCredentialsError(
                f"no usable credentials for {self.endpoint}: {error} (is `aws sso login` due?)"
            ) from None

    def reach(self, name: str) -> Bucket:
        """How a bucket is reached; asked of AWS once."""
        with self._lock:
            if name not in self._reached:
                self._reached[name] = self._in(self._region(name), name)
            return self._reached[name]

    def move(self, name: str, region: str) -> None:
        """From now on the bucket is in that region."""
        with self._lock:
            if self._reached[name].signer.region != region:
                self._reached[name] = self._in(region, name)

    def _in(self, region: str | None, name: str) -> Bucket:
        client = self._client
        if region not in (None, client.meta.region_name):
            client = self._make_client(region)
        # Whether the bucket stands in the host or in the path is botocore's to know.
        url = client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
        base = url.partition("?")[0].removesuffix("k")
        manager, proxied = self._connections(base)
        parts = urlsplit(base)
        before = f"{parts.scheme}://{parts.netloc}" if proxied and parts.scheme == "http" else ""
        pool, signer = manager.connection_from_url(base), Signer(client.meta.region_name)
        return Bucket(client, _host(base), parts.path, before, pool, signer)

    def _connections(self, url: str) -> tuple[PoolManager, bool]:
        """Connections with the certificates and proxies that botocore would use, and whether there is a proxy."""
        import urllib3
        from botocore.httpsession import get_cert_path
        from botocore.utils import get_environ_proxies

        options: dict[str, Any] = {
            "maxsize": CONNECTIONS,
            "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            "ca_certs": self._session.get_config_variable("ca_bundle") or get_cert_path(True),
        }
        scheme = urlsplit(url).scheme
        proxy = get_environ_proxies(url).get(scheme)
        if proxy is None:
            return urllib3.PoolManager(**options), False
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=user)
        return urllib3.ProxyManager(parts.geturl(), proxy_headers=headers, **options), True

    def _make_client(self, region: str | None) -> Any:
        from botocore.config import Config

        return self._session.create_client(
            "s3",
            region_name=region,
            endpoint_url=self._given,
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                **({} if self._given is None else {"s3": {"addressing_style": "path"}}),
            ),
        )

    def _region(self, bucket: str) -> str | None:
        """Where AWS keeps a bucket; None for other servers, and where it does not say."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not (urlsplit(self._client.meta.endpoint_url).hostname or "").endswith(".amazonaws.com"):
            return None
        try:
            answer = self._client.head_bucket(Bucket=bucket)
        except ClientError as error:  # denied or elsewhere: the header is there all the same
            answer = error.response
        except BotoCoreError:  # the request that follows meets it too, and says so
            return None
        region: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
        return region


def _check(url: str) -> None:
    """Raises ValueError for what only later errors of botocore would tell, and not by what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # `port` raises for one too high
        raise ValueError(url)


def _host(url: str) -> str:
    """The header `Host`: in lower case, without the scheme's own port."""
    parts = urlsplit(url.lower())
    own = {"http": 80, "https": 443}[parts.scheme]
    return parts.netloc.rpartition(":")[0] if parts.port == own else parts.netloc
