"""What names a file of weights: a path, or an address with the hash of what is there.

::

    models/vocals.ckpt                                                        relative to the recipe's folder
    https://host/vocals.ckpt#sha256=HEX
    https://host/vocals.ckpt#sha256=HEX&license=CC-BY-4.0
    hf:OWNER/REPO/vocals.ckpt@REVISION#sha256=HEX                             of Hugging Face; main by default

Settings of the loader follow behind a question mark, ``KEY=VALUE`` joined by ``&``, percent-encoded where need be.

An address is fetched once, where that is allowed, into the folder that the variable ``STEMLOOM_CACHE`` names, or
the system's one for caches, and is read from there afterwards. The hash is part of the reference since the weights
are part of the result: whatever else comes to stand at the address is not taken.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from manifests.errors import RecipeError, did_you_mean
from manifests.files import replacing
from manifests.staging import cache_folder

__all__ = ["downloaded", "file_sha256", "local_weights", "split_settings"]

log = logging.getLogger(__name__)

_SCHEMES = ("https://", "http://", "hf:")
_LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}
_TIMEOUT_S = 60
_CHUNK_BYTES = 1 << 20


def split_settings(text: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """A reference and the settings behind it.

    Parameters
    ----------
    text : str
        ``REFERENCE`` or ``REFERENCE?KEY=VALUE&KEY=VALUE``. The question mark of an address comes after its hash.
    known : collection of str
        Keys that there are.

    Returns
    -------
    reference : str
    settings : dict of str to str

    Raises
    ------
    RecipeError
        A key is unknown, given twice or without a value.
    """
    # What stands before the hash of an address belongs to the address.
    start = text.find("#") if text.startswith(_SCHEMES) else 0
    place = text.find("?", start) if start >= 0 else -1
    if place < 0:
        return text, {}
    return text[:place], _pairs(text[place + 1 :], text, known)


def local_weights(reference: str, folder: Path, allow_download: bool = False) -> Path:
    """The file that a reference names, on this machine.

    Parameters
    ----------
    reference : str
        As this module's docstring says.
    folder : Path
        That relative paths are relative to.
    allow_download : bool
        Whether an address that is not in the cache may be fetched.

    Returns
    -------
    Path

    Raises
    ------
    RecipeError
        There is no such file; the address has no hash, may not be fetched, cannot be, or holds something else.
    BuildError
        The cache cannot be written.
    """
    if not reference.startswith(_SCHEMES):
        path = folder / Path(reference).expanduser()
        if not path.is_file():
            raise RecipeError(
                f"{path}: there is no such file; give the path of the weights, or their address as "
                "https://HOST/FILE#sha256=HEX"
            )
        return path
    address, _, fragment = reference.partition("#")
    facts = _pairs(fragment, reference, ("sha256", "license", "licence"))
    if not re.fullmatch(r"[0-9a-fA-F]{64}", facts.get("sha256", "")):
        raise RecipeError(
            f"{reference}: an address needs the sha256 of what is there, since weights from elsewhere would be "
            f"other results: write {address}#sha256=HEX with the 64 digits that its page shows, or that sha256sum "
            "says of a copy that you trust"
        )
    licence = facts.get("licence", facts.get("license"))
    return downloaded(_url(address), facts["sha256"].lower(), licence=licence, allow_download=allow_download)


def downloaded(url: str, sha256: str, *, licence: str | None = None, allow_download: bool = False) -> Path:
    """A file of the cache, fetched where it is not there yet.

    Parameters
    ----------
    url : str
        ``https``, or ``http`` of this machine.
    sha256 : str
        Of the file, or how it begins: lower-case hexadecimal digits.
    licence : str, optional
        Of the weights, as the reference says it.
    allow_download : bool

    Returns
    -------
    Path

    Raises
    ------
    RecipeError
        It is not in the cache and may not be fetched; it cannot be, or is another file.
    BuildError
        The cache cannot be written.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOCAL_HOSTS:
        raise RecipeError(f"{url}: weights are not fetched over plain http; use https")
    path = cache_folder() / "weights" / sha256 / (Path(parts.path).name.strip(".") or "weights")
    about = f"licence {licence}" if licence else "licence not given"
    if path.is_file():
        with path.open("rb") as file:
            found = file_sha256(file)
        if found.startswith(sha256):
            log.info("%s: %s, from %s", path, about, url)
            return path
        problem = f"its copy {path} is damaged (sha256 {found}, expected {sha256})"
    else:
        problem = "it is not in the cache"
    if not allow_download:
        raise RecipeError(f"{url} ({about}): {problem}; fetch it with --allow-downloads")
    log.info("%s: fetching it, %s", url, about)
    pooch, requests = (importlib.import_module(name) for name in ("pooch", "requests"))
    with replacing(path) as file:
        try:
            pooch.HTTPDownloader(chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)(url, file, None)
        except requests.RequestException as error:
            raise RecipeError(
                f"{url}: cannot be fetched ({error}); look at the address and at the connection, or give a path"
            ) from error
        found = file_sha256(file)
        if not found.startswith(sha256):
            raise RecipeError(
                f"{url}: is another file than was asked for: its sha256 is {found}, expected {sha256}; look who "
                "changed it before you trust it"
            )
    return path


def file_sha256(file: BinaryIO) -> str:
    """The hash of an open file, from its beginning.

    Parameters
    ----------
    file : BinaryIO

    Returns
    -------
    str
        64 lower-case hexadecimal digits.
    """
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _pairs(text: str, whole: str, known: Collection[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        key, equals, value = pair.partition("=")
        if key not in known:
            raise RecipeError(f"{whole}: there is no '{key}'{did_you_mean(key, known)}: give {', '.join(known)}")
        if not equals or not value or key in pairs:
            raise RecipeError(f"{whole}: write '{key}' once, as {key}=VALUE")
        pairs[key] = unquote(value)
    return pairs


def _url(address: str) -> str:
    if not address.startswith("hf:"):
        return address
    place, at, revision = address.removeprefix("hf:").rpartition("@")
    if not at:
        place, revision = address.removeprefix("hf:"), "main"
    owner, _, rest = place.partition("/")
    repository, _, path = rest.partition("/")
    if not (owner and repository and path and revision):
        raise RecipeError(f"{address}: write hf:OWNER/REPO/PATH@REVISION#sha256=HEX")
    return f"https://huggingface.co/{owner}/{repository}/resolve/{revision}/{path}"
