"""Makes the icons of the web app manifest from static/icon.svg.

    pip install -e '.[browser]' && python docs/make_icons.py

needs Chromium (JT709C_CHROMIUM names another than the one in the PATH).
"""

import os
from base64 import b64encode
from pathlib import Path

from make_pictures import chromium
from playwright.sync_api import sync_playwright

STATIC = Path(__file__).parent.parent / "jt709c_gateway" / "web" / "static"
#: Name, pixels of a side, and the part of it that the drawing takes: a maskable one is cropped.
ICONS = (("icon-192", 192, 1.0), ("icon-512", 512, 1.0), ("icon-maskable-512", 512, 0.75))
#: The background of the drawing.
BLUE = "#1f5fae"


def main() -> None:
    """Draw each icon in the browser."""
    source = "data:image/svg+xml;base64," + b64encode((STATIC / "icon.svg").read_bytes()).decode()
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root.
        options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        for name, side, part in ICONS:
            page = browser.new_page(viewport={"width": side, "height": side})
            ground = BLUE if part < 1 else "transparent"
            page.set_content(
                f'<body style="margin:0;display:grid;place-items:center;height:100vh;background:{ground}">'
                f'<img src="{source}" width="{round(side * part)}" height="{round(side * part)}">'
            )
            page.screenshot(path=STATIC / f"{name}.png", omit_background=True)
        browser.close()


if __name__ == "__main__":
    main()
