"""Open files and addresses: few protocols are allowed, and no address that a run folder names."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mlic.errors import InputError

# fsspec knows many more, some of which open others or render templates (`reference`, `zip::https://...`)
PROTOCOLS = ("file", "http", "https", "s3", "gs", "hf")

_connections_allowed = ContextVar("connections_allowed", default=True)


@contextmanager
def local_only() -> Iterator[None]:
    """Open no address inside this block, such as those that a run folder or a checkpoint names; also a decorator."""
    token = _connections_allowed.set(False)
    try:
        yield
    finally:
        _connections_allowed.reset(token)


def may_connect() -> bool:
    """Return True where connections may be opened; see `local_only`."""
    return _connections_allowed.get()


def open_address(address: str) -> tuple[Any, str]:
    """Equivalent to fsspec's `url_to_fs`, restricted to local paths and `PROTOCOLS`.

    Args:
        address: a path or an address.

    Returns:
        The file system, and the path in it.

    Raises:
        InputError: another protocol, several that are chained by `::`, or an address inside `local_only`.
    """
    # fsspec takes a quarter of a second to import: not before a shard is meant
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    protocol, is_address, _ = address.partition("://")
    if "::" in address or (is_address and protocol not in PROTOCOLS):
        raise InputError(
            f"'{address}' is not opened: an address must begin with one of {'://, '.join(PROTOCOLS)}://, and a path "
            "must not contain '::'. Download or mount what other protocols give, and name the local folder."
        )
    if not is_address:
        return LocalFileSystem(), LocalFileSystem._strip_protocol(address)
    if protocol != "file" and not may_connect():
        raise InputError(
            f"'{address}' is named by a run folder or checkpoint, and such addresses are not opened. If you trust "
            "it, name it yourself: data=webdataset data.images=<address>."
        )
    return url_to_fs(address)
