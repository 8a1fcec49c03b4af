"""Charts as SVG, and drawing in pixels."""
