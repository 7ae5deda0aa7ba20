"""As much of Google Cloud as a function sees before its first answer, on loopback.

The metadata server is named by GCE_METADATA_HOST. Firestore's real name is reached through a
proxy that only gRPC uses, and that leads to the double, whatever name is asked for; so nothing
leaves this machine.
"""

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from tempfile import TemporaryDirectory
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench import client, sample
from bench.database import PROJECT, Database
from bench.server import FUNCTION, SMALLEST, Server
from bench.table import Row
from tests.doubles.firestore import FirestoreDouble

_FIRESTORE: Final = "firestore.googleapis.com"
_QUESTIONS_AT_MOST: Final = 3
_OK: Final = 200


def metadata_requests(sources: Path) -> Iterator[Row]:
    """Count what is asked of the metadata server before the first answer."""
    ours = _ask(sources, FUNCTION, GOOGLE_CLOUD_PROJECT=PROJECT)  # as deploy.sh sets it
    reference = _ask(sources, SMALLEST)
    yield Row(
        "requests to the metadata server before the first answer on Google Cloud (stand-in)",
        f"{len(reference)}: a plain `Client()`",
        f"{len(ours)}: {', '.join(sorted(set(ours)))}",
        f"2, or {_QUESTIONS_AT_MOST} with the reason",
        kept=len(ours) <= _QUESTIONS_AT_MOST,
    )


def _ask(sources: Path, source: str, **more: str) -> list[str]:
    with (
        _google_cloud() as (settings, questions),
        Server(sources, source, **settings, **more) as server,
    ):
        with server.connect() as connection:
            status, body = connection.send(client.post(sample.body()))
        if status != _OK:
            raise RuntimeError(f"{source} answered {status}: {body!r}")
        return list(questions)


@contextmanager
def _google_cloud() -> Iterator[tuple[Mapping[str, str], list[str]]]:
    """Yield the environment of a function there, and what is asked of the metadata server."""
    with TemporaryDirectory() as directory, FirestoreDouble() as double:
        Database("double", double.host)
        certificate, key = _certificate(Path(directory))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2"])
        with _Metadata() as metadata, _Proxy(double.host, context) as proxy:
            host = f"127.0.0.1:{metadata.server_port}"
            yield (
                {
                    "K_SERVICE": "bench",
                    "GCE_METADATA_HOST": host,
                    "GCE_METADATA_IP": host,
                    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate),
                    "grpc_proxy": f"http://127.0.0.1:{proxy.server_address[1]}",
                },
                metadata.questions,
            )


class _Metadata(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MetadataRequest)
        self.questions: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *reason: object) -> None:
        self.shutdown()
        self.server_close()


class _MetadataRequest(BaseHTTPRequestHandler):
    server: _Metadata

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/computeMetadata/v1/")
        self.server.questions.append(f"`{path}`")
        account = "instance/service-accounts/default/"
        answers = {
            "/": "",
            "project/project-id": PROJECT,
            "universe/universe-domain": "googleapis.com",
            account: json.dumps({"email": "bench@localhost", "scopes": [], "aliases": []}),
            f"{account}token": json.dumps(
                {"access_token": "owner", "expires_in": 3_600, "token_type": "Bearer"}
            ),
        }
        answer = answers.get(path)
        self.send_response(404 if answer is None else _OK)
        self.send_header("Metadata-Flavor", "Google")
        is_json = answer is not None and answer.startswith("{")
        self.send_header("Content-Type", "application/json" if is_json else "text/plain")
        self.send_header("Content-Length", str(len(answer or "")))
        self.end_headers()
        self.wfile.write((answer or "").encode())

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class _Proxy(ThreadingTCPServer):
    """Takes CONNECT, ends TLS under Firestore's name, and passes on what it reads."""

    daemon_threads = True

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        address, _, port = host.rpartition(":")
        self.backend = (address, int(port))
        self.context = context
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *reason: object) -> None:
        self.shutdown()
        self.server_close()


class _Tunnel(StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with (
            suppress(OSError),
            self.server.context.wrap_socket(self.connection, server_side=True) as outside,
            socket.create_connection(self.server.backend) as inside,
        ):
            threading.Thread(target=_pump, args=(outside, inside), daemon=True).start()
            _pump(inside, outside)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_RDWR)


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for Firestore's name, which only processes of the benchmark trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _FIRESTORE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_FIRESTORE)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
