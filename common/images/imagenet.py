"""ResNets trained on ImageNet, as torchvision publishes them: fetched once into torch's cache."""

import hashlib
import http.client
import logging
import urllib.request
from pathlib import Path

import torch

from common.errors import InputError
from common.files.atomic import write_atomic

log = logging.getLogger(__name__)

URL = "https://download.pytorch.org/models/"
# Version 1, on which the published networks were trained; a name ends in the beginning of the file's SHA-256.
FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
}
_TIMEOUT = 20  # seconds without an answer


def fetch(name: str) -> Path:
    """The file of the network `name`, in torch's cache; from torch's server where it is not there yet.

    Raises:
        InputError: it cannot be fetched or written, or is not what was published.
    """
    path, url = Path(torch.hub.get_dir()) / "checkpoints" / FILES[name], URL + FILES[name]
    try:
        if not path.is_file():
            log.info("ImageNet weights: %s", url)
            content = _download(url)
            write_atomic(path, lambda file: file.write(content))
        return path
    except (OSError, http.client.HTTPException, InputError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:160]
        raise InputError(f"no ImageNet weights of {name}: {url} cannot be fetched ({reason})") from error


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
        content = answer.read()
    expected = Path(url).stem.rpartition("-")[2]
    if not hashlib.sha256(content).hexdigest().startswith(expected):
        raise OSError(f"what came is not what was published: its SHA-256 does not begin with {expected}")
    return content
