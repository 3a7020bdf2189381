"""Judges put together from rows: what stands once and what stands for each training."""

import json
from typing import Any

from bnrecal.report.analysis.judged import judged_of, judges_of
from bnrecal.report.formats.judged import rendered
from bnrecal.search.truth import Truth
from tests.report.test_report import row

ARCHS = ("a0", "a1", "a2")


def evaluated(epochs: int, figures: dict[str, float]) -> list[dict[str, Any]]:
    """Pooled 64 images of a supernet that a study trained."""
    trained = {"trained": f"t{epochs}", "recipe": {"epochs": epochs, "batch_size": 16}}
    return [
        {**row(arch, 16, 64, 0.1, eval=value, estimator="pooled", momentum=None), **trained}
        for arch, value in figures.items()
    ]


def judged(judge: str, epochs: int, figures: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            **found,
            "kind": "judge",
            "judge": judge,
            "score": found.pop("eval"),
            "key": f"{judge}{epochs}{found['arch']}",
            "total_s": 2.0,
        }
        for found in evaluated(epochs, figures)
    ]


def names_and_values(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {judge.name: list(judge.values.values()) for judge in judges_of(rows)}


def test_a_cost_that_every_training_shares_stands_once() -> None:
    """FLOPs of two trainings are one judge of both times; where one figure differs, as of bn, two."""
    same = dict.fromkeys(ARCHS, 3.0)
    (flops,) = judges_of(judged("flops", 1, same) + judged("flops", 2, same))
    assert (flops.name, flops.seconds) == ("flops", 12)
    apart = names_and_values(judged("bn", 1, same) + judged("bn", 2, {**same, "a2": 4.0}))
    assert apart == {"bn, epochs 1": [3, 3, 3], "bn, epochs 2": [3, 3, 4]}


def test_equal_accuracies_of_two_trainings_are_two_findings() -> None:
    """Evals that agree to the last bit, as at chance, stay two judges, each with its recipe."""
    chance = dict.fromkeys(ARCHS, 0.1)
    found = names_and_values(evaluated(1, chance) + evaluated(2, chance))
    assert found == {
        "eval pooled bs 16 n 64, epochs 1": [0.1] * 3,
        "eval pooled bs 16 n 64, epochs 2": [0.1] * 3,
    }


def test_one_training_needs_no_name() -> None:
    """A single recipe goes into the notes, not into the judge's name."""
    assert list(names_and_values(evaluated(2, dict.fromkeys(ARCHS, 0.5)))) == ["eval pooled bs 16 n 64"]


def of_weights(path: str, figures: dict[str, float], **changed: Any) -> list[dict[str, Any]]:
    """bn of networks with the weights of a file."""
    return [
        {
            **found,
            "key": f"{path}{found['arch']}{changed}",
            "trained": None,
            "recipe": None,
            "inputs": {"model": "net:supernet", "weights": path},
            **changed,
        }
        for found in judged("bn", 1, figures)
    ]


def test_two_supernets_in_one_folder_are_two_judges() -> None:
    """Each weights file and each set of images by its name; a figure of one is none of the other's."""
    one, other = dict.fromkeys(ARCHS, 1.0), dict.fromkeys(ARCHS[:2], 9.0)
    found = names_and_values(of_weights("w1.pt", one) + of_weights("w2.pt", other))
    assert found == {"bn, w1.pt": [1, 1, 1], "bn, w2.pt": [9, 9]}
    smaller = of_weights("w1.pt", other, data_digest="abcdef0123")
    found = names_and_values(of_weights("w1.pt", one, data_digest="0123456789") + smaller)
    assert found == {"bn, data 012345": [1, 1, 1], "bn, data abcdef": [9, 9]}


def test_one_file_named_from_two_folders_is_one() -> None:
    """A command that goes on elsewhere names it by another path; files of one name in two folders are two."""
    rows = of_weights("../runs/w.pt", {"a0": 1.0}) + of_weights("/home/me/runs/w.pt", {"a1": 2.0})
    assert names_and_values(rows) == {"bn": [1, 2]}
    rows = of_weights("one/w.pt", {"a0": 1.0}) + of_weights("two/w.pt", {"a1": 2.0})
    assert names_and_values(rows) == {"bn, one/w.pt": [1], "bn, two/w.pt": [2]}


def test_weights_that_changed_under_their_name_are_noted() -> None:
    """The figures of the overwritten file are still there for some; without such there is no note."""
    now = of_weights("w.pt", dict.fromkeys(ARCHS, 2.0), weights_digest="b" * 16)
    before = of_weights("w.pt", {"a0": 1.0}, weights_digest="a" * 16)
    assert any("weights changed under their name" in note for note in judged_of(before + now).notes)
    assert not any("weights changed" in note for note in judged_of(now).notes)


def test_judges_of_one_name_are_told_apart_by_seed_code_or_order() -> None:
    """Two seeds of `random`, two versions of one's own judge, two orders of the images: each has its figures,
    in the ranking too; a version that says the same is the same judge."""
    up, down = {"a0": 1.0, "a1": 2.0, "a2": 3.0}, {"a0": 3.0, "a1": 2.0, "a2": 1.0}
    truth = Truth({"a0": 5.0, "a1": 6.0, "a2": 7.0})

    def told(rows: list[dict[str, Any]], **facts: Any) -> list[dict[str, Any]]:
        return [{**row, "key": f"{row['key']}{facts}", **facts} for row in rows]

    for make, facts, names in (
        (judged, ({"seed": 0}, {"seed": 1}), ("random, seed 0", "random, seed 1")),
        (
            judged,
            ({"code_digest": "aaaaaabb"}, {"code_digest": "cccccccc"}),
            ("random, code aaaaaa", "random, code cccccc"),
        ),
        (
            lambda _, *rest: evaluated(*rest),
            ({"order_digest": "aaaaaabb"}, {"order_digest": "cccccccc"}),
            ("eval pooled bs 16 n 64, order aaaaaa", "eval pooled bs 16 n 64, order cccccc"),
        ),
    ):
        rows = told(make("random", 1, up), **facts[0]) + told(make("random", 1, down), **facts[1])
        found = judged_of(rows, truth, "truth")
        assert tuple(judge.name for judge in found.judges) == names
        assert found.ranking is not None
        assert [found.ranking.against[name].kendall.value for name in names] == [1, -1]
    rows = told(judged("own:j", 1, up), code_digest="a") + told(judged("own:j", 1, up), code_digest="b")
    assert names_and_values(rows) == {"own:j": [1, 2, 3]}


def test_a_judge_of_few_does_not_take_the_answer_of_the_others() -> None:
    """Of four architectures it knows two: it is left out, with a note, and the others are compared."""
    figures = {f"a{k}": float(k) for k in range(4)}
    rows = evaluated(1, figures) + judged("flops", 1, figures) + judged("bn", 1, {"a0": 1.0, "a1": 2.0})
    found = judged_of(rows)
    assert [judge.name for judge in found.judges] == ["eval pooled bs 16 n 64", "flops"]
    assert found.ranking is not None
    assert len(found.ranking.archs) == 4
    assert "bn is left out: with it 2 architectures would be left to compare, and 3 are needed" in found.notes
    half = judged_of(evaluated(1, figures) + judged("bn", 1, {f"a{k}": float(k) for k in range(3)}))
    assert [judge.name for judge in half.judges] == ["eval pooled bs 16 n 64", "bn"]


def test_re_estimated_figures_come_first() -> None:
    """Whatever was measured first: tables go by the first judge, not by one of networks in disrepair."""
    figures = dict.fromkeys(ARCHS, 0.5)
    standing = [
        {**row, "key": f"s{row['key']}", "estimator": "stored", "batch_size": None, "n_samples": 0}
        for row in evaluated(1, figures)
    ]
    rows = judged("flops", 1, figures) + standing + evaluated(1, figures)
    assert list(names_and_values(rows)) == ["eval pooled bs 16 n 64", "stored", "flops"]


def test_where_all_failed_there_are_no_tables() -> None:
    """What failed, and that nothing is left; in every layout."""
    rows = [
        {**row, "status": "failed", "eval": None, "error": "no"}
        for row in evaluated(1, dict.fromkeys(ARCHS, 0.5))
    ]
    found = judged_of(rows)
    assert found.notes == ("no architecture could be judged",)
    for layout in ("text", "md"):
        assert rendered(found, layout).count("\n\n") == 1
    assert json.loads(rendered(found, "json"))["judges"] == {}


def test_names_are_text_in_markdown() -> None:
    """A choice with a bar makes no column; intervals keep their brackets."""
    figures = {f"{k}-x|y_z": float(k) for k in range(12)}
    lines = rendered(judged_of(evaluated(1, figures) + judged("bn", 1, figures)), "md").splitlines()
    (named,) = (line for line in lines if line.startswith("| 11-x"))
    assert named.startswith(r"| 11-x\|y\_z ")
    assert named.replace(r"\|", "").count("|") == 4
    assert any("1.000 [1.000, 1.000]" in line for line in lines)
