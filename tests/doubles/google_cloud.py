"""A minimal Google Cloud on loopback: a metadata server, and a TLS proxy to Firestore.

The metadata server is named by GCE_METADATA_HOST. Firestore's real name is reached over TLS
through a proxy that only gRPC uses, and that leads to one address, whatever name is asked for; so
nothing leaves this machine.
"""

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.doubles.loopback import Loopback, QuietHandler

Fault: TypeAlias = tuple[int, str] | threading.Event

_FIRESTORE: Final = "firestore.googleapis.com"
_ACCOUNT: Final = "instance/service-accounts/default/"


class MetadataServer(Loopback):
    """The metadata server of one project, for as long as a `with` block lasts.

    It also gives tokens to those who have the key of a service account: POST /token.

    `questions` are the paths that it was asked for. `faults` strike the next questions for a
    token: another status and body, or an event that must be set before the answer comes.
    """

    def __init__(self, project: str = "p") -> None:
        super().__init__(_MetadataRequest)
        self.project = project
        self.token = "owner"
        self.seconds: object = 3_600
        self.questions: list[str] = []
        self.faults: deque[Fault] = deque()

    def answer(self, path: str) -> tuple[int, str]:
        """Return the status and the body for a path."""
        self.questions.append(path)
        fault = self.faults.popleft() if path.endswith("token") and self.faults else None
        if isinstance(fault, threading.Event):
            fault.wait(60)
        elif fault:
            return fault
        token = {"access_token": self.token, "expires_in": self.seconds, "token_type": "Bearer"}
        answers = {
            "/": "",
            "project/project-id": self.project,
            "universe/universe-domain": "googleapis.com",
            _ACCOUNT: json.dumps({"email": "a@localhost", "scopes": [], "aliases": []}),
            f"{_ACCOUNT}token": json.dumps(token),
            "/token": json.dumps(token),
        }
        return (200, answers[path]) if path in answers else (404, "")


class _MetadataRequest(QuietHandler, BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        status, body = 403, "Missing Metadata-Flavor:Google header."
        if self.headers["Metadata-Flavor"] == "Google":
            path = self.path.partition("?")[0].removeprefix("/computeMetadata/v1/")
            status, body = self.server.answer(path)
        self._answer(status, body)

    def _answer(self, status: int, body: str) -> None:
        kind = "application/json" if body.startswith("{") else "text/plain"
        headers = {"Metadata-Flavor": "Google", "Content-Type": kind}
        with suppress(OSError):  # the client has gone
            self.respond(status, body.encode(), **headers)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(*self.server.answer(self.path))


@contextmanager
def google_cloud(
    firestore: str, project: str
) -> Iterator[tuple[Mapping[str, str], MetadataServer]]:
    """Yield the environment of a function there, and the metadata server.

    `firestore` is the address of the double that is Firestore.
    """
    with TemporaryDirectory() as directory:
        certificate, key = _certificate(Path(directory))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["h2"])
        with MetadataServer(project) as metadata, _Proxy(firestore, context) as proxy:
            yield (
                {
                    "K_SERVICE": "a-service",
                    "GCE_METADATA_HOST": metadata.host,
                    "GCE_METADATA_IP": metadata.host,
                    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate),
                    "grpc_proxy": f"http://127.0.0.1:{proxy.server_address[1]}",
                },
                metadata,
            )


class _Proxy(ThreadingTCPServer):
    """Accepts CONNECT, terminates TLS under Firestore's name, and forwards what it reads."""

    daemon_threads = True

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        address, _, port = host.rpartition(":")
        self.backend = (address, int(port))
        self.context = context
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

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
    """Create a certificate for Firestore's name, trusted only by chosen processes."""
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
