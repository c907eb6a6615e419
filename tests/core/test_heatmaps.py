"""Heat maps on disk."""

import json

import numpy as np
import pytest

from harness.errors import RecordError
from harness.heatmaps import FILE, HeatMaps, belonging, quantised, read_heatmaps, write_heatmaps

DIGESTS = {"checkpoint": "c", "predictions": "p", "data": "d"}
MAP = quantised(np.array([[0.0, 0.1], [0.25, 0.5]]), target=1)


def made(maps, **changes):
    given = {"run": "r", "digests": belonging(DIGESTS), "stage": "block5", "versions": {"torch": "2"}}
    return HeatMaps(**{**given, "maps": maps, **changes})


def test_levels_are_shares_of_the_peak():
    assert MAP.levels.tolist() == [[0, 51], [128, 255]]
    assert MAP.levels.dtype == np.uint8
    assert (MAP.target, MAP.peak) == (1, 0.5)
    nothing = quantised(np.zeros((2, 2)), target=0)
    assert nothing.peak == 0
    assert not nothing.levels.any()


def test_what_is_written_is_read(tmp_path):
    write_heatmaps(tmp_path, made({"ü/1.jpg": MAP, "": MAP}))
    found = read_heatmaps(tmp_path, DIGESTS)
    assert (found.run, found.stage, found.versions) == ("r", "block5", {"torch": "2"})
    assert set(found.maps) == {"ü/1.jpg", ""}
    one = found.maps[""]
    assert (one.target, one.peak) == (MAP.target, MAP.peak)
    assert np.array_equal(one.levels, MAP.levels)


def test_the_same_bytes_in_any_order(tmp_path):
    write_heatmaps(tmp_path / "a", made({"1": MAP, "2": MAP}))
    write_heatmaps(tmp_path / "b", made({"2": MAP}))
    write_heatmaps(tmp_path / "b", made({"1": MAP}))
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    json.loads((tmp_path / "a" / FILE).read_text())


@pytest.mark.parametrize("change", [{"stage": "block4"}, {"versions": {}}, {"digests": {"checkpoint": "x"}}])
def test_maps_made_in_another_way_are_replaced(tmp_path, change):
    write_heatmaps(tmp_path, made({"1": MAP}, **change))
    write_heatmaps(tmp_path, made({"2": MAP}))
    assert set(read_heatmaps(tmp_path, DIGESTS).maps) == {"2"}


def test_maps_of_another_network_count_as_absent(tmp_path):
    assert read_heatmaps(tmp_path, DIGESTS) is None
    write_heatmaps(tmp_path, made({"1": MAP}))
    assert read_heatmaps(tmp_path, {**DIGESTS, "data": "other"}) is not None
    for key in ("checkpoint", "predictions"):
        assert read_heatmaps(tmp_path, {**DIGESTS, key: "other"}) is None


@pytest.mark.parametrize(
    "levels", ["[[0, 300]]", "[[-1]]", "[[0, 1], [2]]", "[]", "[0]", '[["a"]]', "null", f"[{[0] * 600}]"]
)
def test_a_malformed_map_is_one_line_that_names_the_file(tmp_path, levels):
    file = write_heatmaps(tmp_path, made({"1": MAP}))
    file.write_text(file.read_text().replace("[[0, 51], [128, 255]]", levels))
    with pytest.raises(RecordError, match=FILE) as error:
        read_heatmaps(tmp_path, DIGESTS)
    assert "\n" not in str(error.value)
    write_heatmaps(tmp_path, made({"2": MAP}))  # and explaining again heals it
    assert set(read_heatmaps(tmp_path, DIGESTS).maps) == {"2"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', "\xff"])
def test_a_malformed_file_is_one_line_that_names_it(tmp_path, content):
    (tmp_path / FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(RecordError, match=FILE):
        read_heatmaps(tmp_path, DIGESTS)
