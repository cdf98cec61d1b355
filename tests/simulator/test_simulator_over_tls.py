"""The simulator with a certificate."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.simulator.caller import OFFER, SESSION, calling, types


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulator")])
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path


async def test_a_call_runs_over_tls(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    async with calling(scenario="typed", tls_cert=certificate[0], tls_key=certificate[1]) as caller:
        url = f"{caller.simulator.base_url}/realtime"
        minted = await caller.http.post(
            f"{url}/client_secrets", headers=caller.key, json={"session": SESSION}, ssl=context
        )
        assert minted.status == 200
        assert url.startswith("https://")
        bearer = {"authorization": f"Bearer {(await minted.json())['value']}", "content-type": "application/sdp"}
        await caller.http.post(f"{url}/calls", headers=bearer, data=OFFER.encode(), ssl=context)
        (call_id,) = caller.simulator.calls
        async with caller.attach(call_id, ssl=context) as observer:
            assert types(await observer.rest()).count("response.done") == 2
