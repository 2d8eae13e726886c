"""Same-origin checks of a page's server: its own name, its own page's requests, what browsers obey.

A name server of somebody else can make a name mean this server (DNS rebinding), and a page of
another site can have a browser send requests here: neither may do anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

#: Header that the page sends with each request that changes something; no form can.
HEADER = "x-auscult"

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; object-src 'none'; "
    "frame-ancestors 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def page_headers(path: str) -> dict[str, str]:
    """Headers of an answer that browsers obey: nothing from elsewhere, in no frame, no answer kept.

    Args:
        path: What was asked for.
    """
    return _HEADERS | ({"cache-control": "no-store"} if path.startswith("/api/") else {})


def is_own_name(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header is an address or one of the server's names.

    Args:
        host: With or without a port.
        names: In lower case.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return False
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True  # an address cannot be made to mean another server by a name server


def foreign_request(headers: Mapping[str, str], host: str) -> str:
    """Why a request that changes something is not this page's own; empty when it is.

    Args:
        headers: Names in lower case.
        host: Of the `Host` header.
    """
    if headers.get(HEADER) != "1":
        return "requests that change something need the header `X-Auscult: 1`"
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return "a page of another site may not do that"
    origin = headers.get("origin")
    if origin is not None:
        here = {host.lower(), headers.get("x-forwarded-host", host).lower()}
        try:
            there = urlsplit(origin).netloc.lower()
        except ValueError:
            there = ""
        if there not in here:
            return "a page of another site may not do that"
    return ""
