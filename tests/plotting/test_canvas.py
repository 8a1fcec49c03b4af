"""SVG and pixels draw alike: the same colors at the same coordinates."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import ImageColor

from bayesrl.plotting import raster, svg
from bayesrl.plotting.canvas import COLORS, INK, color, shade


def test_a_share_is_white_at_0_and_dark_at_1_by_its_square_root() -> None:
    assert (shade(0), shade(1), shade(2), shade(-1)) == ("#ffffff", "#102a5c", "#102a5c", "#ffffff")
    middle = ImageColor.getrgb(shade(0.25))
    assert middle == tuple(round(255 + 0.5 * (dark - 255)) for dark in (16, 42, 92))


def test_colors_repeat_and_no_group_is_ink() -> None:
    assert [color(i) for i in range(7)] == [*COLORS, COLORS[0]] and color(-1) == INK


@pytest.mark.parametrize("shape", [(2, 3), (4, 4), (5, 1)])
def test_a_heat_map_is_the_same_in_pixels_and_as_svg(shape: tuple[int, int]) -> None:
    values = np.arange(np.prod(shape), dtype=float).reshape(shape)
    picture = raster.heat("map", values)
    cells = list(ElementTree.fromstring(svg.heat("map", torch.tensor(values))).iter("{http://www.w3.org/2000/svg}rect"))
    for rect in cells[1 : 1 + values.size]:  # after the paper
        x, y, width, height = (float(rect.get(key, "")) for key in ("x", "y", "width", "height"))
        assert width == pytest.approx(height, abs=0.11) == pytest.approx(340 / max(shape), abs=0.11)
        assert picture.getpixel((int(x + width / 2), int(y + height / 2))) == ImageColor.getrgb(rect.get("fill", ""))
