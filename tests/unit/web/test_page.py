"""The page's files over HTTP, and what browsers are told about them."""

import gzip
import json
import re
import socket
import struct
from importlib.resources import files
from pathlib import Path
from urllib.parse import urljoin

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.values import tiles
from jt709c_gateway.web import static_files
from jt709c_gateway.web.app import content_policy
from jt709c_gateway.web.settings import Tiles
from tests.support import LOOPBACK, ValkeyServer, shared_server, wait_until
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.web import Api, basic, user_line

TILES = "https://{s}.tiles.example.net:8443/{z}/{x}/{y}.png?key=a1"
ATTRIBUTION = '&copy; <a href="https://example.net">Example</a>'


class PageTests(SynchronousTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        options = ("--web-tiles", TILES, "--web-tiles-attribution", ATTRIBUTION, "--gateway", "gw1")
        cls.daemon = Daemon(*options, redis=shared_server().url).start()
        cls.api = Api(cls.daemon)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        super().tearDownClass()

    def test_every_file(self) -> None:
        """Each file of the package is served under its name, with its type; the page is the first of them."""
        folder = files("jt709c_gateway.web").joinpath("static")
        names = [item.name for item in folder.iterdir() if item.is_file()] if folder.is_dir() else []
        served = [path for path in static_files.load() if path != "/"]
        self.assertLessEqual({f"/static/{name}" for name in names}, set(served))
        for path in served:
            reply = self.api.fetch("GET", path)
            self.assertEqual(reply.status, 200, path)
            self.assertTrue(reply.body)
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
            kind = {
                "js": "text/javascript",
                "css": "text/css",
                "json": "application/json",
                "png": "image/png",
                "svg": "image/svg+xml",
                "webmanifest": "application/manifest+json",
            }
            expected = kind.get(path.rpartition(".")[2], "text/html")
            self.assertEqual(reply.headers["content-type"].partition(";")[0], expected, path)
        if "index.html" in names:
            self.assertEqual(self.api.fetch("GET", "/").body, folder.joinpath("index.html").read_bytes())

    def test_manifest(self) -> None:
        """The manifest and its icons are where a proxy's path prefix puts them, with the sizes they claim."""
        page = self.api.fetch("GET", "/").body.decode()
        found = re.search(r'<link rel="manifest" href="([^"]+)" crossorigin="use-credentials">', page)
        assert found is not None
        at = urljoin("https://proxy.example.net/locks/", found[1])
        manifest = self.api.fetch("GET", f"/{found[1]}").json
        for name in ("start_url", "scope"):
            self.assertEqual(urljoin(at, manifest[name]), "https://proxy.example.net/locks/")
        for icon in manifest["icons"]:
            path = urljoin(at, icon["src"]).removeprefix("https://proxy.example.net/locks")
            reply = self.api.fetch("GET", path)
            self.assertEqual(reply.headers["content-type"], icon["type"])
            if icon["type"] == "image/png":
                width, height = struct.unpack(">II", reply.body[16:24])
                self.assertEqual(icon["sizes"], f"{width}x{height}")
        self.assertIn("maskable", [icon.get("purpose") for icon in manifest["icons"]])

    def test_map_library(self) -> None:
        """Leaflet's own files, and of its package no others."""
        paths = [path for path in static_files.load() if path.startswith("/static/leaflet/")]
        self.assertIn("/static/leaflet/leaflet.js", paths)
        self.assertIn("/static/leaflet/leaflet.css", paths)
        self.assertIn("/static/leaflet/images/marker-icon.png", paths)
        self.assertEqual([path for path in paths if "src" in path or path.endswith(".map")], [])

    def test_no_others(self) -> None:
        """Nothing else can be had: no listing, no way out, no source."""
        for path in (
            "/static",
            "/static/",
            "/static/leaflet/",
            "/static/leaflet/images",
            "/static/leaflet/leaflet-src.js",
            "/static/../service.py",
            "/static/%2e%2e/service.py",
            "/static/..%2fservice.py",
            "/static/nothing.js",
            "/index.html",
            "/favicon.ico",
        ):
            self.assertEqual(self.api.fetch("GET", path).status, 404, path)
        self.assertEqual(self.api.fetch("POST", "/static/leaflet/leaflet.js", b"x").status, 405)

    def test_kept(self) -> None:
        """A browser asks whether its copy is the present one, and doesn't get it again."""
        path = "/static/leaflet/leaflet.js"
        first = self.api.fetch("GET", path)
        self.assertEqual(first.headers["cache-control"], "no-cache")
        etag = first.headers["etag"]
        for known in (etag, f'"other", {etag}', f"W/{etag}"):
            again = self.api.fetch("GET", path, headers={"if-none-match": known})
            self.assertEqual((again.status, again.body, again.headers["etag"]), (304, b"", etag))
        self.assertEqual(self.api.fetch("GET", path, headers={"if-none-match": '"other"'}).status, 200)

    def test_compressed(self) -> None:
        """Text is sent compressed to those who take that."""
        path = "/static/leaflet/leaflet.js"
        plain, packed = (
            self.api.fetch("GET", path, headers={"accept-encoding": one}) for one in ("", "gzip")
        )
        self.assertEqual(packed.headers["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertEqual(packed.headers["vary"], "accept-encoding")
        self.assertLess(len(packed.body), len(plain.body) / 2)

    def test_security_headers(self) -> None:
        """No script but ours, no frame around it, no word to others; images from the tiles' address too."""
        for path in ("/", "/api/v1/config", "/nothing"):
            headers = self.api.fetch("GET", path).headers
            policy = dict(one.split(" ", 1) for one in headers["content-security-policy"].split("; "))
            self.assertEqual(policy["default-src"], "'none'")
            self.assertEqual((policy["script-src"], policy["style-src"]), ("'self'", "'self'"))
            self.assertEqual(policy["frame-ancestors"], "'none'")
            self.assertEqual(policy["img-src"], "'self' data: https://*.tiles.example.net:8443")
            self.assertEqual(headers["referrer-policy"], "no-referrer")
            self.assertEqual(headers["x-frame-options"], "DENY")
            self.assertEqual(headers["server"], "jt709c-gateway")

    def test_config(self) -> None:
        """What the page has to know of how the gateway was started."""
        config = self.api.get("/config").json
        self.assertEqual(config["tiles"], {"url": TILES, "attribution": ATTRIBUTION, "max_zoom": 19})
        self.assertEqual((config["gateway"], config["prefix"], config["commands"]), ("gw1", "jt709c", False))
        self.assertNotIn("tiles", content_policy(None))


class TilesTests(SynchronousTestCase):
    def test_sources(self) -> None:
        """What a browser's policy has to let through for an address."""
        for text, source in (
            ("https://tiles.example.net/{z}/{x}/{y}.png", "https://tiles.example.net"),
            ("http://10.0.0.1:8080/a/{z}/{y}/{x}", "http://10.0.0.1:8080"),
            ("https://{s}.example.net/{z}/{x}/{y}{r}.png", "https://*.example.net"),
        ):
            self.assertEqual(tiles(text), Tiles(text, source))
        for text in (
            "https://example.net/{z}/{x}",
            "ftp://example.net/{z}/{x}/{y}",
            "https://example.net; script-src *;/{z}/{x}/{y}",
            "https://a b/{z}/{x}/{y}",
            "https:///{z}/{x}/{y}",
            "/{z}/{x}/{y}",
        ):
            self.assertRaises(ValueError, tiles, text)


class BoundsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = Daemon(redis=shared_server().url).start()
        self.addCleanup(self.daemon.discard)

    def test_long_body(self) -> None:
        """A body that is too long is refused at once, with its length or in chunks, and is not taken in."""
        for head in ("content-length: 99999999999", "transfer-encoding: chunked"):
            with socket.create_connection((LOOPBACK, self.daemon.http_port), 10) as connection:
                connection.sendall(
                    f"POST /api/v1/explain HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n".encode()
                )
                if "chunked" in head:
                    connection.sendall(b"20000\r\n" + b"x" * 0x20000 + b"\r\n")
                answer = b""
                try:
                    while data := connection.recv(65536):
                        answer += data
                except ConnectionError:
                    # What we had still to say was not read.
                    pass
                self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
                self.assertEqual(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["field"], None)
        self.assertNotIn("Traceback", self.daemon.log())


class WorkersTests(SynchronousTestCase):
    """With ``--workers`` the page is the supervisor's, whatever its workers do."""

    def test_everything(self) -> None:
        """Locks of both workers are in one table, live events come from both, commands are given to both."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon("--workers", "2", "--gateway", "gw", "--web-commands", redis=server.url)
        self.addCleanup(daemon.discard)
        users = Path(daemon.directory) / "users"
        users.write_text(user_line("anna", "right"))
        daemon._options += ("--web-users", str(users))
        daemon.start()
        daemon.wait_workers(2)
        api = Api(daemon, basic("anna", "right"))
        with api.listen(("kind", "session")) as listener, server.client() as client:
            wait_until(lambda: client.call("PUBSUB", "NUMPAT") == 1)
            locks = []
            holders = set()
            while len(holders) < 2:
                lock = FakeLock(new_device()).connect(daemon)
                self.addCleanup(lock.close)
                locks.append(lock)
                holders.add(listener.next("event")["gateway"])
        self.assertEqual(holders, {"gw-1", "gw-2"})
        found = {one["device"]: one for one in api.get("/devices").json["devices"]}
        self.assertEqual({one["gateway"] for one in found.values()}, holders)
        self.assertEqual(api.get("/config").json["gateway"], "gw")
        for lock in (locks[0], locks[-1]):
            command = api.post("/commands", {"device": lock.device, "command": "locate"}).json["id"]
            lock.next_command()
            wait_until(lambda one=command: api.get(f"/commands/{one}").json["command"]["state"] == "sent")
        self.assertEqual(daemon.get("/readyz")[0], 200)
        self.assertEqual(daemon.stop(), 0)

    def test_embedded(self) -> None:
        """So it is with the embedded server, which only the supervisor knows beforehand."""
        daemon = Daemon("--workers", "2")
        self.addCleanup(daemon.discard)
        daemon.start()
        daemon.wait_workers(2)
        api = Api(daemon)
        lock = FakeLock(new_device()).connect(daemon)
        self.addCleanup(lock.close)
        wait_until(lambda: [one["device"] for one in api.get("/devices").json["devices"]] == [lock.device])
        self.assertEqual(daemon.stop(), 0)
