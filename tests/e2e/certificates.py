"""Certificates for tests: an authority of its own and what it issues, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """Its certificate lies in `file`."""

    def __init__(self, folder: Path, name: str):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = (
            _draft(self._name, self._name, self._key, DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / f"{name}.pem"
        _replace(self.file, self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        stem: str,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        common_name: str = "localhost",
        ends: datetime.timedelta = DAY,
    ) -> tuple[Path, Path]:
        """The files of a certificate and its key; the key is replaced first, as a careless renewal would."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _draft(_name(common_name), self._name, key, ends)
            .add_extension(x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = (self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        _replace(
            pair[1],
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        _replace(pair[0], certificate.public_bytes(serialization.Encoding.PEM))
        return pair


def serial_of(der: bytes) -> int:
    return x509.load_der_x509_certificate(der).serial_number


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _draft(subject: x509.Name, issuer: x509.Name, key, ends: datetime.timedelta):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + ends)
    )


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)
