"""The status page in headless Chromium, served by a real daemon."""
