"""What `mkdocs build` does besides: the board of published results goes into the site, whose pages link to it."""

import re
from pathlib import Path

import griffe


def on_post_build(config: dict) -> None:
    """Called with mkdocs' configuration when all pages are written."""
    from bench.report.site import write_site

    write_site(Path(config["site_dir"], "board"), documentation="../index.html")


def on_page_markdown(markdown: str, **kwargs: object) -> str:
    """Called with every page: reports lie beside docs/ in the repository, and in the board on the site."""
    return markdown.replace('"../reports/', '"board/reports/')


class ExampleSections(griffe.Extension):
    """Reads the section "Example:" of a docstring, which griffe knows as "Examples:" alone."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called with every object, once its members are read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
