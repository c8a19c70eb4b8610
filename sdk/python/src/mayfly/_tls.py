"""Who vouches for an https node, and who we are to it."""

from __future__ import annotations

import ssl
from typing import Optional

from ._settings import Settings
from .errors import InvalidArgument


def tls_context(settings: Settings) -> Optional[ssl.SSLContext]:
    if not settings.address.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"{settings.ca}: not a PEM file of authorities: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_cert:
        try:
            context.load_cert_chain(settings.client_cert, settings.client_key or None)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(
                f"{settings.client_cert}: the certificate or its key cannot be used: {error}"
            ) from error
    return context
