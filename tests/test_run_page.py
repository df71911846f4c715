import json
import re

import numpy as np
from PIL import Image

from began_jax import run_page
from tests.conftest import make_config

START = {
    "start_step": 0,
    "time": "2026-01-01T00:00:00Z",
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "devices": ["cpu:cpu"],
    "packages": {"jax": "0.10.2"},
    "command": ["main.py", "--config=<script>"],
}


def record(step, **values):
    names = ("m_global", "loss_real", "loss_fake", "k", "sample_spread", "learning_rate")
    record = {"step": step, "images": 8 * step, "images_per_second": 1.0, **dict.fromkeys(names, 0)}
    return {**record, **values}


def make(folder, records, **overrides):
    (folder / "provenance.json").write_text(json.dumps([START]))
    text = "".join(json.dumps(one) + "\n" for one in records)
    (folder / "metrics.jsonl").write_text(text)
    run_page.write(folder, make_config(**overrides))
    return (folder / "report.html").read_text()


def polylines(page):
    return [
        [tuple(map(float, pair.split(","))) for pair in points.split()]
        for points in re.findall(r'polyline points="([^"]*)"', page)
    ]


def test_curves_go_from_corner_to_corner_over_the_images(tmp_path):
    records = [record(i, m_global=m, loss_fake=i) for i, m in ((1, 0.5), (2, 0.25), (4, 0.0))]
    page = make(tmp_path, records)
    m_global, loss_real, loss_fake, *_ = polylines(page)
    width, height = 320, 120
    assert m_global == [(width / 4, 0), (width / 2, height / 2), (width, height)]
    assert loss_real == [(x, height) for x, _ in m_global]  # 0, in the panel of loss_fake's range
    assert loss_fake[-1] == (width, 0)
    assert "0 to 0.5" in page
    assert "Step 4 of 6, 32 images." in page


def test_many_records_become_means_of_neighbours(tmp_path):
    values = np.random.default_rng(0).uniform(size=3000)
    page = make(tmp_path, [record(i + 1, m_global=m) for i, m in enumerate(values)])
    points = polylines(page)[0]
    assert len(points) == 300
    scaled = (values - values.min()) / np.ptp(values)
    means = 120 * (1 - scaled.reshape(300, 10).mean(1))
    np.testing.assert_allclose([y for _, y in points], means, atol=0.051)  # to a tenth


def test_alarms_and_rollbacks_are_told(tmp_path):
    (tmp_path / "rollbacks.json").write_text(
        json.dumps([{"step": 2, "alarm_step": 3, "alarms": {"collapse": "0.01 of <the> data's"}}])
    )
    records = [record(1), record(2, alarms=["collapse"]), record(3, alarms=["stalled"])]
    page = make(tmp_path, records)
    assert re.search(r"<td>collapse</td><td>2 to 2</td><td>a lower config", page)
    assert re.search(r'<td class="now">stalled</td><td>3 to 3, still there</td>', page)
    line = {"step": 4, "images": 32, "alarms": ["not_finite"]}  # has no means
    assert ">not_finite</td><td>4 to 4, still there</td>" in make(tmp_path, [record(1), line])
    assert "from 3 to 2" in page and "0.01 of &lt;the&gt; data" in page


def test_grids_are_spread_over_the_run_and_what_is_no_picture_is_left_out(tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    for i in range(1, 30):
        Image.new("RGB", (600, 600), (8 * i, 0, 0)).save(samples / f"{1000 * i:09d}.png")
    (samples / f"{29000:09d}.png").write_bytes(b"cut")
    (samples / "mine.png").write_bytes(b"another's")
    page = make(tmp_path, [record(1)])
    told = re.findall(r'alt="samples after (\d+) images"', page)
    assert told == [f"{n}000" for n in (1, 5, 9, 13, 17, 21, 25)]


def test_it_is_whole_in_itself_and_text_of_the_run_is_only_text(tmp_path):
    page = make(tmp_path, [record(1, m_global=float("nan"))], name="<b>&")
    assert "<script" not in page and "<b>" not in page
    assert "--config=&lt;script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http://" not in page
    assert "default-src 'none'" in page


def test_without_a_record_it_says_so(tmp_path):
    assert "No record yet." in make(tmp_path, [])
