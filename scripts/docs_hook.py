"""MkDocs hook: adds the generated pages, and puts the four kinds of documentation into their order."""

from __future__ import annotations

from typing import Any

import reference  # beside this file; MkDocs puts the folder on the path while it loads a hook
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation, Section

ORDER = {"Tutorials": "Tutorials", "How to": "How-to guides", "Reference": "Reference", "Explanation": "Explanation"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that the code itself writes."""
    for place, write in reference.pages().items():
        files.append(File.generated(config, place, content=write()))
    return files


def on_nav(nav: Navigation, config: Any, files: Files) -> Navigation:
    """Order the sections after Diátaxis; a page that is new on disk is in its section by itself."""
    titles = list(ORDER)
    nav.items.sort(key=lambda item: titles.index(item.title) if isinstance(item, Section) else -1)
    for item in nav.items:
        if isinstance(item, Section):
            item.title = ORDER[item.title]
    return nav
