"""Tokens of other issuers: from a file of keys and from an https address, over HTTP and gRPC."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
import uuid
from pathlib import Path

import grpc
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from certificates import Authority
from keys_test import KeyedCase
from node import Node, wait_until

ISSUER = "https://login.example/realm"


class Signer:
    """A key of an issuer, and tokens that it signs."""

    def __init__(self, algorithm: str):
        self.algorithm = algorithm
        self.id = uuid.uuid4().hex
        if algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = rsa.generate_private_key(65537, 2048)

    def jwk(self) -> dict:
        maker = jwt.algorithms.ECAlgorithm if self.algorithm == "ES256" else jwt.algorithms.RSAAlgorithm
        return json.loads(maker.to_jwk(self.key.public_key())) | {
            "kid": self.id,
            "use": "sig",
            "alg": self.algorithm,
        }

    def token(self, drop: tuple[str, ...] = (), **claims) -> str:
        whole = {
            "iss": ISSUER,
            "aud": "mayfly",
            "sub": "ann",
            "exp": time.time() + 600,
            "scope": "invoke:* read:*",
        } | claims
        kept = {name: value for name, value in whole.items() if name not in drop}
        return jwt.encode(kept, self.key, self.algorithm, headers={"kid": self.id})


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def encoded(part: dict) -> str:
    return base64url(json.dumps(part).encode())


def key_set(*signers: Signer) -> bytes:
    return json.dumps({"keys": [signer.jwk() for signer in signers]}).encode()


class TokenCase(KeyedCase):
    """A node that takes tokens; what is deployed is deployed with a key."""

    mapping: dict = {}

    @classmethod
    def setUpClass(cls) -> None:
        cls.signer = Signer("ES256")
        super().setUpClass()

    @classmethod
    def start_with(cls, **mapping) -> None:
        """Restarts the node with an issuer."""
        file = cls.folder / "issuers.json"
        file.write_text(json.dumps({"issuers": [{"issuer": ISSUER, "audience": "mayfly"} | mapping]}))
        cls.node.stop()
        cls.node._arguments = ("--issuers", str(file))
        cls.node.start()

    def status(self, token: str | None, path: str = "/api/v1/functions") -> int:
        return self.ask("GET", path, token).status


class FileTest(TokenCase):
    functions = {"f": "iris"}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.rsa = Signer("RS256")
        cls.keys = cls.folder / "jwks.json"
        cls.keys.write_bytes(key_set(cls.signer, cls.rsa))
        cls.start_with(jwks=str(cls.keys), project="default", scopes_claim="scope")

    def test_a_token_does_what_its_scopes_let_it_over_both_protocols(self) -> None:
        self.assertEqual(self.status(None), 401)
        for signer in (self.signer, self.rsa):
            token = signer.token()
            self.assertServed(self.predict("f", token))
            self.assertRefused(
                self.ask("DELETE", "/api/v1/functions/f", token), 403, "missing_scope", "configure"
            )
            with grpc.insecure_channel(self.node.grpc) as channel:
                stub = rpc.GRPCInferenceServiceStub(channel)
                metadata = (("authorization", f"Bearer {token}"),)
                found = stub.ModelMetadata(pb.ModelMetadataRequest(name="f"), metadata=metadata)
                self.assertEqual(found.name, "f")
                with self.assertRaises(grpc.RpcError) as refused:
                    stub.ModelMetadata(pb.ModelMetadataRequest(name="f"))
                self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
        refusal = self.audit(action="delete")[0]
        self.assertEqual(refusal["who"], "ann (login.example)")
        self.assertEqual(refusal["outcome"], "missing_scope")

    def test_what_is_not_exactly_a_token_of_the_issuer_is_refused(self) -> None:
        good = self.signer.token()
        self.assertEqual(self.status(good), 200)
        public = self.rsa.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        claims = jwt.decode(good, options={"verify_signature": False})
        head, body, signature = good.split(".")
        # By hand: pyjwt refuses to sign with a PEM text.
        unsigned = f"{encoded({'alg': 'HS256', 'kid': self.rsa.id})}.{encoded(claims)}"
        mac = hmac.new(public, unsigned.encode(), hashlib.sha256).digest()
        other = Signer("ES256")
        other.id = self.signer.id
        elsewhere = Signer("ES256")
        for what, bad in {
            "alg none": jwt.encode(claims, None, "none", headers={"kid": self.rsa.id}),
            "HS256 with the public key": f"{unsigned}.{base64url(mac)}",
            "unknown kid": elsewhere.token(),
            "another's signature": other.token(),
            "aud": self.signer.token(aud="other"),
            "iss": self.signer.token(iss="https://evil.example"),
            "expired": self.signer.token(exp=time.time() - 120),
            "not begun": self.signer.token(nbf=time.time() + 120),
            "no exp": self.signer.token(drop=("exp",)),
            "no sub": self.signer.token(drop=("sub",)),
            "no aud": self.signer.token(drop=("aud",)),
            "truncated": good[:-1],
            "a fourth part": good + ".x",
            "two parts": f"{head}.{body}",
            "altered": ".".join((head, encoded(claims | {"sub": "bob"}), signature)),
            "padded": good + "=",
            "huge": self.signer.token(more="x" * 8000),
        }.items():
            with self.subTest(what):
                self.assertRefused(
                    self.ask("GET", "/api/v1/functions", bad), 401, "unauthenticated"
                )

    def test_no_claim_makes_somebody_speak_for_the_node(self) -> None:
        token = self.signer.token(scope="admin metrics read")
        self.assertEqual(self.status(token), 200)
        for path in ("/api/v1/keys", "/metrics", "/api/v1/audit"):
            self.assertEqual(self.status(token, path), 403, path)

    def test_keys_are_taken_beside_tokens(self) -> None:
        key = self.make("read:*")["key"]
        self.assertEqual(self.status(key), 200)

    def test_a_token_ends_while_its_connection_goes_on(self) -> None:
        token = self.signer.token(exp=time.time() - 57)  # a minute is allowed for
        self.assertEqual(self.status(token), 200)
        wait_until(lambda: self.status(token) == 401, "the token ends")

    def test_a_file_that_changes_is_read_again(self) -> None:
        fresh = Signer("RS256")
        self.assertEqual(self.status(fresh.token()), 401)
        self.keys.write_bytes(key_set(self.signer, self.rsa, fresh))
        wait_until(lambda: self.status(fresh.token()) == 200, "the new key is known")
        self.keys.write_bytes(b"{")
        wait_until(lambda: "keys cannot be read" in self.node.tail(), "the log says so")
        self.assertEqual(self.status(fresh.token()), 200)
        self.keys.write_bytes(key_set(self.signer, self.rsa))
        wait_until(lambda: self.status(fresh.token()) == 401, "the key that is gone is forgotten")


class Publisher:
    """An https server that publishes what `content` holds; `None` is answered with 503."""

    def __init__(self, certificate: tuple[Path, Path]):
        self.content: bytes | None = None
        self.asked = 0
        publisher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked += 1
                body = publisher.content if self.path == "/realm/keys" else None
                self.send_response(200 if body is not None else 503)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}/realm/keys"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class AddressTest(TokenCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.authority = Authority(cls.folder, "idp")
        cls.publisher = Publisher(cls.authority.issue("idp-server"))
        cls.addClassCleanup(cls.publisher.close)
        cls.mapping = {
            "jwks": cls.publisher.url,
            "ca": str(cls.authority.file),
            "project_claim": "tenant",
            "scopes_claim": "/realm_access/roles",
            "roles": {"viewer": "read:*", "owner": "read:*,admin"},
            "name": "idp",
        }

    def token(self, tenant: str, *roles: str, signer: Signer | None = None) -> str:
        return (signer or self.signer).token(tenant=tenant, realm_access={"roles": roles})

    def test_keys_come_from_an_address_and_projects_and_roles_from_claims(self) -> None:
        self.publisher.content = key_set(self.signer)
        self.start_with(**self.mapping)
        self.assertEqual(self.status(self.token("team", "viewer")), 200)  # the first one waits for it
        self.assertEqual(self.status(self.token("team", "nothing")), 403)
        self.assertEqual(self.status(self.token("team", "owner"), "/api/v1/keys"), 200)
        self.assertEqual(self.status(self.token("default", "owner"), "/api/v1/keys"), 403)
        self.assertEqual(self.status(self.token("Not/A/Project", "owner")), 401)
        made = self.ask(
            "POST", "/api/v1/keys", self.token("team", "owner"), {"scopes": "read", "project": "team"}
        )
        self.assertEqual(made.status, 201)
        listed = self.ask("GET", "/api/v1/keys", self.token("team", "owner")).json()["keys"]
        self.assertEqual({key["created_by"] for key in listed}, {"ann (idp)"})

        # The address is gone: what was fetched holds, and strangers do not make the node ask again.
        self.publisher.content = None
        asked = self.publisher.asked
        stranger = Signer("ES256")
        for _ in range(5):
            self.assertEqual(self.status(self.token("team", "viewer", signer=stranger)), 401)
        self.assertEqual(self.publisher.asked, asked)
        self.assertEqual(self.status(self.token("team", "viewer")), 200)

    def test_a_node_starts_while_its_issuer_is_down_and_learns_the_keys_later(self) -> None:
        self.publisher.content = None
        self.start_with(**self.mapping)
        self.assertEqual(self.status(self.token("team", "viewer")), 401)
        self.publisher.content = key_set(self.signer)
        wait_until(
            lambda: self.status(self.token("team", "viewer")) == 200, "the keys are asked for again"
        )

    def test_an_address_that_nobody_vouches_for_is_not_believed(self) -> None:
        self.publisher.content = key_set(self.signer)
        other = Authority(self.folder, "other")
        self.start_with(**(self.mapping | {"ca": str(other.file)}))
        self.assertEqual(self.status(self.token("team", "viewer")), 401)
        wait_until(lambda: "not trusted" in self.node.tail(), "the log says why")


class MappingTest(TokenCase):
    def test_a_mapping_that_says_nothing_usable_is_refused_at_the_start(self) -> None:
        file = self.folder / "bad.json"
        for content, words in (
            ('{"issuers": []}', "list of 1 to"),
            ('{"issuers": [{"issuer": "i", "audience": "a", "jwks": "http://x/k"}]}', "https"),
            ("nothing", "not JSON"),
        ):
            file.write_text(content)
            with self.subTest(content), self.assertRaises(AssertionError) as refused:
                Node("--issuers", str(file))
            self.assertIn(words, str(refused.exception))
            self.assertIn("identity.issuers", str(refused.exception))
