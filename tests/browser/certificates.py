"""An authority of the tests' own, and a certificate of its."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BEGAN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_ENDS = _BEGAN + datetime.timedelta(days=36500)


@dataclass(frozen=True)
class Certificate:
    path: Path
    key: Path
    authority: Path
    """What a client has to trust."""


def certify(folder: Path, name: str, address: str) -> Certificate:
    """Write a certificate for a host's name and address into a folder."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' authority")])
    signed = (
        _builder(root, root, root_key.public_key(), 1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))])
    leaf = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), root, key.public_key(), 2)
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    found = Certificate(folder / "leaf.pem", folder / "leaf.key", folder / "authority.pem")
    found.authority.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    found.path.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, number: int
) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return made.serial_number(number).not_valid_before(_BEGAN).not_valid_after(_ENDS)
