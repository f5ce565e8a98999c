"""Sphinx: ``sphinx-build -W --keep-going -n docs build/docs``. It needs no network."""

from importlib import metadata

project = "jt709c-gateway"
release = metadata.version("jt709c-gateway")
exclude_patterns = ["examples"]
nitpicky = True
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_title = f"{project} {release}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Commands and lines of a log are highlighted as what they are, or not at all.
highlight_language = "none"
