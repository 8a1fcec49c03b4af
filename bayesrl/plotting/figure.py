"""A figure that a notebook shows and that can be saved."""

from __future__ import annotations

from pathlib import Path


class Figure:
    """A figure.

    Arguments:
        svg: the text of a self-contained SVG file.
        title: a few words for its repr.
    """

    def __init__(self, svg: str, title: str = "") -> None:
        self.svg, self.title = svg, title

    def save(self, path: str | Path) -> Path:
        """Write the figure, as SVG or PNG by the name's suffix, and return the path.

        Raises:
            ValueError: another suffix.
            ImportError: a PNG without the extra `png`.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.svg)
        elif path.suffix == ".png":
            path.write_bytes(self.png())
        else:
            raise ValueError(f"got {path}, wanted a name that ends in .svg or .png")
        return path

    def png(self) -> bytes:
        """Return the content of a PNG file.

        Raises:
            ImportError: the extra `png` is not installed.
        """
        try:
            import cairosvg
        except (ImportError, OSError) as error:  # OSError: its C library is missing
            remedy = 'pip install "bayesrl[png]", or save it as .svg'
            raise ImportError(f"got no cairosvg ({error}), wanted it to write a PNG: {remedy}") from error
        return cairosvg.svg2png(bytestring=self.svg.encode(), scale=2)

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Figure({self.title})"
