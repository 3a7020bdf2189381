"""Files of true values, good and bad."""

import json
from pathlib import Path

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.search.space import Space
from bnrecal.search.truth import Truth, in_spelling, read_truth
from bnrecal.store.truth import keep_truth, kept_truth


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
        ("t.csv", "a,1\nb,2\n", "line 1: 'a' has a value, where column names are to be"),
        ("t.csv", "arch,value\na,1_0\n", "a: '1_0' is no finite number"),
        ("t.csv", "arch,value\n\na,1\n\n\na,2\n", "line 6: a stands there twice"),
        ("t.csv", "arch,flops,value\na,10,1\n", "second column is 'flops', and 'value' comes after it"),
        ("t.csv", "arch,value\na,83,12\n", "line 2: 'a' has 3 columns, of which 2 have a name; a comma"),
        ("t.csv", "arch,value\na," + "1" * 140_000, "is not CSV: field larger"),
        ("t.json", '{"a": 1, "a": 2}', "a stands there twice"),
        ("t.json", '{"a": 1' + "0" * 400 + "}", "is no finite number"),
        ("t.json", "[" * 100_000, "nested too deeply"),
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


def test_names_are_those_of_the_space() -> None:
    """A second name of an architecture finds its value, whichever of the two the file has; with two values
    it is refused; what the space has not is left out."""
    space = Space((("0", "1"), ("0", "1")), named={"first": "0-0"})
    truth = Truth({"first": 1.0, "0-1": 2.0, "0-1-1": 9.0}, {"first": (1.0,), "0-1": (2.0,), "0-1-1": (9.0,)})
    assert in_spelling(truth, ["0-0", "0-1", "1-1"], space) == Truth(
        {"0-0": 1.0, "0-1": 2.0}, {"0-0": (1.0,), "0-1": (2.0,)}
    )
    with pytest.raises(BnrecalError, match="first and 0-0 are one architecture and have two values"):
        in_spelling(Truth({"first": 1.0, "0-0": 2.0}), ["0-0"], space)
    assert in_spelling(truth, ["0-1", "x"], None).values == {"0-1": 2.0}


def test_what_is_kept_grows(tmp_path: Path) -> None:
    """Of another call with other architectures both are kept; under another name the last alone."""
    keep_truth(tmp_path, "t", Truth({"a": 1.0, "b": 2.0}))
    keep_truth(tmp_path, "t", Truth({"b": 3.0, "c": 4.0}))
    assert kept_truth(tmp_path) == (Truth({"a": 1.0, "b": 3.0, "c": 4.0}), "t")
    keep_truth(tmp_path, "other", Truth({"d": 4.0}))
    assert kept_truth(tmp_path) == (Truth({"d": 4.0}), "other")
