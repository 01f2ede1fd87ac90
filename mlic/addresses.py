"""Opening of files and addresses, restricted to a few protocols and to addresses of the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mlic.errors import InputError

# fsspec supports many more, some of which open other addresses or render templates (`reference`, `zip::https://...`)
PROTOCOLS = ("file", "http", "https", "s3", "gs", "hf")

_connections_allowed = ContextVar("connections_allowed", default=True)


@contextmanager
def local_only() -> Iterator[None]:
    """Refuse to open addresses, such as those in run folders and checkpoints; a context manager and decorator."""
    token = _connections_allowed.set(False)
    try:
        yield
    finally:
        _connections_allowed.reset(token)


def may_connect() -> bool:
    """Return True if connections may be opened; see `local_only`."""
    return _connections_allowed.get()


def open_address(address: str) -> tuple[Any, str]:
    """Like fsspec's `url_to_fs`, but restricted to local paths and `PROTOCOLS`.

    Args:
        address: path or address.

    Returns:
        The file system and the path in it.

    Raises:
        InputError: the protocol is not allowed, protocols are chained by `::`, or connections are not allowed inside
            `local_only`.
    """
    # imported only when needed, because importing fsspec takes a quarter of a second
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    protocol, is_address, _ = address.partition("://")
    if "::" in address or (is_address and protocol not in PROTOCOLS):
        raise InputError(
            f"'{address}' is not opened: an address must begin with one of {'://, '.join(PROTOCOLS)}://, and a path "
            "must not contain '::'. Download or mount the data, and use the local folder."
        )
    if not is_address:
        return LocalFileSystem(), LocalFileSystem._strip_protocol(address)
    if protocol != "file" and not may_connect():
        raise InputError(
            f"'{address}' is not opened, because the address comes from a run folder or checkpoint. If you trust "
            "it, specify it on the command line: data=webdataset data.images=<address>."
        )
    return url_to_fs(address)
