"""What re-estimating does to the networks as they stand, in sentences: harm, help, or neither shown."""

from collections.abc import Iterable, Mapping
from statistics import mean

from bnrecal.report.analysis.choice import Choice, Gap
from bnrecal.report.analysis.wording import listed
from bnrecal.store.store import Row


def leave(choice: Choice) -> str:
    harmed = sorted(choice.harmed, key=lambda one: -one.eval)
    told = listed([_loss(choice, one, len(harmed) > 1) for one in harmed])
    if not choice.archs and len(harmed) > 1:
        return (
            f"Leave the networks as they stand: re-estimating makes each of the {len(harmed):,} "
            f"architectures worse: {told}."
        )
    names = listed([one.arch for one in harmed])
    if len(harmed) == 1:
        return f"Leave {names} as it stands: re-estimating makes it worse, {told}."
    return f"Leave {names} as they stand: re-estimating makes them worse: {told}."


def _loss(choice: Choice, lost: Gap, named: bool) -> str:
    """Where it was and where it went; the gap is of stored over re-estimated."""
    before = choice.stored[lost.arch]["eval"]
    name = f"{lost.arch} " if named else ""
    return f"{name}from {before:.4f} to {before - lost.eval:.4f} (lost {lost.eval:.4f}{interval(lost)})"


def no_help(choice: Choice, metric: str) -> str:
    """No architecture is shown to gain, and none to lose."""
    before, after = _mean(choice.stored, choice.archs), choice.chosen.mean_over(choice.archs)
    most = max(choice.helped, key=lambda one: one.eval)
    if len(choice.archs) == 1:
        scores = f"{before:.4f} as it stands, {after:.4f} with {choice.chosen.name}"
        return (
            f"Re-estimating is not shown to help {most.arch}: {metric} {scores} "
            f"({most.eval:+.4f}{interval(most)})."
        )
    scores = f"mean {metric} {before:.4f} as they stand, {after:.4f} with {choice.chosen.name}"
    return (
        f"Re-estimating is not shown to help: {scores}; no architecture gains beyond noise (the most "
        f"{most.arch}: {most.eval:+.4f}{interval(most)})."
    )


def helps(choice: Choice, metric: str) -> list[str]:
    """What it does to the networks as they stand, where those were measured."""
    shown = choice.shown_to_help
    if not shown:
        return []
    least = min(shown, key=lambda one: one.eval)
    gain = f"{least.eval:+.4f}{interval(least)}"
    if len(choice.archs) == 1:
        before, after = _mean(choice.stored, choice.archs), choice.chosen.mean_over(choice.archs)
        return [f"It repairs {least.arch}: {metric} {before:.4f} as it stands, {after:.4f} with it ({gain})."]
    if len(shown) == len(choice.archs):
        before, after = _mean(choice.stored, choice.archs), choice.chosen.mean_over(choice.archs)
        return [
            f"It repairs each of the {len(choice.archs):,} architectures: mean {metric} {before:.4f} "
            f"as they stand, {after:.4f} with it (the least gain {least.arch}: {gain})."
        ]
    said = [f"It repairs {listed([one.arch for one in shown])} (the least gain {least.arch}: {gain})."]
    rest = [one for one in choice.helped if one not in shown]
    if rest:
        told = listed([f"{one.arch} ({one.eval:+.4f}{interval(one)})" for one in rest])
        said.append(f"It is not shown to help {told}.")
    return said


def _mean(rows: Mapping[str, Row], archs: Iterable[str]) -> float:
    return float(mean(rows[arch]["eval"] for arch in archs))


def ends(one: Gap) -> str:
    """The interval of a gap that has one."""
    assert one.interval is not None
    return f"{one.interval[0]:+.4f} to {one.interval[1]:+.4f}"


def interval(one: Gap) -> str:
    return "" if one.interval is None else f", 95 % interval {ends(one)}"
