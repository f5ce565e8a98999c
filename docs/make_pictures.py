"""Makes the pictures of the status page in README and the documentation from the demo.

    pip install -e '.[embedded,browser]' && python docs/make_pictures.py

needs Chromium (JT709C_CHROMIUM names another than the one in the PATH). The pictures go to docs/pictures, or
to the directory that is given.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from jt709c_gateway.protocol import jt709, jt808

DEVICE = "794308010001"
#: Locks that need attention: what differs from one that doesn't.
TROUBLE: dict[str, dict[str, int]] = {
    "794308010011": {"alarms": 1 << 16},
    "794308010012": {"status": jt709.STATUS_MOTOR, "speed": 43},
    "794308010013": {"battery": 9},
}
#: The lock that is unlocked on a phone.
SECOND = "794308010002"
#: A lock that is away, for which a command waits.
AWAY = "794308010099"
#: The lock for which a command is bound to a place and a speed.
THIRD = "794308010003"
#: Name, address on the page, width and height, and what must be seen before the picture is taken.
PICTURES = (
    ("fleet", "", 1280, 290, DEVICE),
    ("lock", f"#/device/{DEVICE}", 1100, 800, "confirmed"),
    ("report", f"#/report?device={DEVICE}&period=week", 1000, 640, "Opened"),
    ("paper", f"#/report?device={DEVICE}&period=week", 794, 560, "Opened"),
    ("attention", "", 1280, 390, "low battery"),
    ("phone", f"#/device/{SECOND}", 375, 667, SECOND),
    ("cancel", "#/commands", 1100, 300, "waiting"),
    ("conditions", f"#/device/{THIRD}", 620, 620, THIRD),
    ("batch", "", 1100, 560, DEVICE),
    # The last one: from then on the locks have names.
    ("names", "#/?group=north", 1280, 260, "Truck 12"),
)
#: Width and height of the picture of the map.
MAP = (960, 560)
#: Where these locks travel, latitude and longitude; how many do, and how many of them with an alarm.
ROUTE = "41.4,2.2\n43.6,1.4\n48.9,2.3\n51.2,4.4\n52.4,9.7\n50.1,14.4\n48.2,16.4\n45.5,9.2\n43.3,5.4\n"
LOCKS, ALARMS = 57, 3
#: Seconds for anything to come; and for the locks to travel some way, so that tracks can be seen.
PATIENCE, JOURNEY = 60.0, 60.0


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """``jt709c-gateway --demo`` on free ports, in a directory of its own."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="jt709c-pictures-")
        lock, page = free_port(), free_port()
        self._lock_port, self._connections = lock, list[socket.socket]()
        self._simulators: list[subprocess.Popen[bytes]] = []
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-u", "-m", "jt709c_gateway.program", "--demo", "--no-udp"),
                *("--listen", f"tcp:{lock}:interface=127.0.0.1"),
                *("--http", f"tcp:{page}:interface=127.0.0.1"),
            ],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = self._process.stdout.readline()
            if not line:
                raise SystemExit(f"the demo did not start:\n{said}")
            said += line
        found = re.search(r"The page: +(\S+) +user (\S+), password (\S+)", said)
        assert found is not None, said
        self.url, self.user, self.password = found.groups()

    def name_locks(self) -> None:
        """Give the locks names with `jt709c label`."""
        rows = [f"{int(DEVICE) + at},Truck {12 + at},{('north', 'south')[at % 2]}" for at in range(4)]
        subprocess.run(
            [sys.executable, "-m", "jt709c_gateway.cli.main", "label", "import", "-"],
            cwd=self.directory,
            env={**os.environ, "JT709C_REDIS": "embedded:jt709c-demo"},
            input="\n".join(["device,name,group", *rows]),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def send(self, *arguments: str, wait: bool = True) -> None:
        """Give a command with `jt709c send`, and wait for its outcome."""
        command = [sys.executable, "-m", "jt709c_gateway.cli.main", "send", *arguments]
        environment = {**os.environ, "JT709C_REDIS": "embedded:jt709c-demo"}
        subprocess.run(
            [*command, "--wait", "--password-file", "-"] if wait else command,
            cwd=self.directory,
            env=environment,
            input="888888\n",
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def add_trouble(self) -> None:
        """Add locks that need attention, which stay connected."""
        for device, fields in TROUBLE.items():
            battery = {jt709.BATTERY_PERCENT: bytes([fields.get("battery", 80)])}
            body = jt709.encode(
                alarm_bits=fields.get("alarms", 0),
                status=jt709.STATUS_FIX | fields.get("status", 0),
                latitude=51.9,
                longitude=4.4,
                altitude_m=0,
                speed_kmh=fields.get("speed", 0),
                course_deg=90,
                time=datetime.now(UTC).replace(microsecond=0),
                items=battery,
            )
            connection = socket.create_connection(("127.0.0.1", self._lock_port))
            connection.sendall(jt808.encode(0x0200, bytes.fromhex(device), 1, body))
            self._connections.append(connection)

    def add_locks(self) -> None:
        """Simulate more locks, until the demo is stopped."""
        route = Path(self.directory) / "route.csv"
        route.write_text(ROUTE)
        common = ["--tcp", f"127.0.0.1:{self._lock_port}", "--route", str(route), "--interval", "5"]
        for first, count, options in (
            (794308020001, LOCKS - ALARMS, ["--card-every", "5"]),
            (8000030001, ALARMS, ["--alarm", "rope_cut"]),
        ):
            command = [sys.executable, "-m", "jt709c_gateway.cli.main", "simulate", *common, *options]
            command += ["--locks", str(count), "--first-id", str(first)]
            self._simulators.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def stop(self) -> None:
        """Stop it and its locks, and remove its directory."""
        for connection in self._connections:
            connection.close()
        for process in self._simulators:
            process.terminate()
            process.wait(30)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)


def chromium() -> str | None:
    """The path of Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("JT709C_CHROMIUM") or next((one for one in map(shutil.which, names) if one), None)


def ask_for_many(page: Page) -> None:
    """Select all locks, up to the question about a command for them."""
    page.get_by_role("checkbox", name="Select all locks that are shown").check()
    page.get_by_role("button", name="Give them a command").click()
    page.locator("#batch-command option[value=unlock]").wait_for(state="attached", timeout=PATIENCE * 1000)
    page.select_option("#batch-command", "unlock")
    page.locator("#batch-param-password").fill("123456")
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    page.locator("[data-confirm]").wait_for(timeout=PATIENCE * 1000)


def unlock(page: Page) -> None:
    """Press the large button of the lock's page, and wait for the outcome."""
    button = page.locator("[data-unlock]")
    button.click()
    page.locator("#quick-password").fill("888888")
    button.click()
    page.get_by_role("dialog").get_by_role("button", name="Yes").click()
    page.locator('.followed[data-state="confirmed"]').wait_for(timeout=PATIENCE * 1000)


def bind(page: Page) -> None:
    """Fill in a command with conditions, up to the question."""
    page.locator("#command-command option[value=unlock]").wait_for(state="attached")
    page.select_option("#command-command", "unlock")
    page.fill("#param-password", "888888")
    page.locator(".conditions summary").click()
    page.select_option("#command-where", "around")
    page.fill("#command-speed", "5")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("dialog").get_by_text("only while the lock is within 200 m").wait_for()


def take(browser: Browser, demo: Demo, directory: Path) -> list[Path]:
    """Take all pictures; an error when what should be seen doesn't come."""
    credentials = {"username": demo.user, "password": demo.password}
    taken = []
    for name, address, width, height, text in PICTURES:
        if name == "names":
            demo.name_locks()
        if name == "attention":
            demo.add_trouble()
        if name == "cancel":
            demo.send("locate", AWAY, "--issued-by", "night shift", wait=False)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            http_credentials=credentials,
            timezone_id="UTC",
            has_touch=name == "phone",
        )
        page: Page = context.new_page()
        page.goto(f"{demo.url}{address}")
        page.locator("body").get_by_text(text).locator("visible=true").first.wait_for(timeout=PATIENCE * 1000)
        if name == "phone":
            unlock(page)
        if name == "cancel":
            page.locator("[data-cancel]").click()
        if name == "conditions":
            bind(page)
        if name == "paper":
            page.emulate_media(media="print")
        if name == "batch":
            ask_for_many(page)
        page.wait_for_timeout(1000)
        path = directory / f"{name}.png"
        page.screenshot(path=path)
        taken.append(path)
        context.close()
    return taken


def take_map(browser: Browser, demo: Demo, directory: Path) -> list[Path]:
    """Take the picture of the map, without tiles and with more locks; an error when they don't come."""
    demo.add_locks()
    context = browser.new_context(
        viewport={"width": MAP[0], "height": MAP[1]},
        http_credentials={"username": demo.user, "password": demo.password},
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    page: Page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{demo.url}#/map")
    page.locator("canvas.outlines[data-loaded=true]").wait_for()
    page.locator(".fact", has_text=re.compile(r"^6\d Locks$")).wait_for()
    page.locator(".fact-alarms", has_text=re.compile(rf"^{ALARMS + 1} ")).wait_for()
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("button", name=re.compile(r"^\d+ locks: \d+ alarm")).first.hover()
    page.wait_for_timeout(1000)
    path = directory / "map.png"
    page.screenshot(path=path)
    context.close()
    return [path]


def main(directory: Path, journey: float = JOURNEY) -> list[Path]:
    """Run the demo for a while and take the pictures."""
    demo = Demo()
    try:
        time.sleep(journey)
        demo.send("unlock", DEVICE)
        with sync_playwright() as playwright:
            # Chromium's own sandbox refuses to run as root.
            options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
            browser = playwright.chromium.launch(executable_path=chromium(), args=options)
            try:
                return take(browser, demo, directory) + take_map(browser, demo, directory)
            finally:
                browser.close()
    finally:
        demo.stop()


if __name__ == "__main__":
    for picture in main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures"):
        print(f"{picture}: {picture.stat().st_size // 1024} KiB")
