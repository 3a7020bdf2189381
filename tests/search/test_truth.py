"""Files of true values, good and bad."""

import json
from pathlib import Path

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.search.truth import Truth, read_truth


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_layout_of_nas_bench_macro(tmp_path: Path) -> None:
    """mean_acc is the value, test_acc the runs; everything else is passed over."""
    entry = {"test_acc": [89.5, 88.9], "mean_acc": 89.2, "std": 0.2, "params": 890666}
    path = written(tmp_path, "t.json", json.dumps({"02": entry}))
    assert read_truth(path) == Truth({"02": 89.2}, {"02": (89.5, 88.9)})


def test_plain_json_and_csv_say_the_same(tmp_path: Path) -> None:
    """Without runs; with runs in further columns."""
    as_json = written(tmp_path, "t.json", '{"0-1": 0.5, "1-1": 0.25}')
    as_csv = written(tmp_path, "t.csv", "arch,value\n0-1,0.5\n\n1-1, 0.25\n")
    assert read_truth(as_json) == read_truth(as_csv) == Truth({"0-1": 0.5, "1-1": 0.25}, {})
    with_runs = written(tmp_path, "r.csv", "arch,value,a,b\n0-1,0.5,0.4,0.6\n")
    assert read_truth(with_runs).runs == {"0-1": (0.4, 0.6)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "", "unknown ending '.txt'; valid: .json, .csv"),
        ("t.json", "{", "is not JSON"),
        ("t.json", "[1]", "holds a list"),
        ("t.json", "{}", "holds no architecture"),
        ("t.json", '{"a": "x"}', "a: 'x' is no finite number"),
        ("t.json", '{"a": NaN}', "a: 'nan' is no finite number"),
        ("t.json", '{"a": true}', "a: 'True' is no finite number"),
        ("t.json", '{"a": {"acc": 1}}', "a: has no mean_acc; it has acc"),
        ("t.json", '{"a": {"mean_acc": 1, "test_acc": 3}}', "test_acc is a int"),
        ("t.csv", "arch,value\na\n", "line 2: 'a' has no value"),
        ("t.csv", "arch,value\na,1\na,2\n", "line 3: a stands there twice"),
        ("t.csv", "arch,value,r\na,1,2\nb,1\n", "between 0 and 1 runs"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """One line with the file and the place in it."""
    with pytest.raises(BnrecalError, match=rf"--truth: .*{name}.*{message}"):
        read_truth(written(tmp_path, name, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Named."""
    with pytest.raises(BnrecalError, match=r"cannot read .*none\.json: No such file"):
        read_truth(tmp_path / "none.json")
