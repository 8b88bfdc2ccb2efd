"""What `minbert study status` shows."""

from __future__ import annotations

from pathlib import Path

from minbert.claim import holder
from multitask.experiments.jobs import failure_of
from multitask.study.folder import StudyFolder, merged
from multitask.text_table import table


def describe_study(folder: Path) -> str:
    """A row for each experiment of each variant: results finished; then what runs and failed."""
    study = StudyFolder.open(folder)
    rows, states = [], {}
    for plan in merged(study.plans()):
        counts: dict[str, list[int]] = {}
        for result in plan["results"]:
            for name in result["stages"]:
                states[name] = _state(study, name)
            count = counts.setdefault(result["row"], [0, 0])
            count[0] += states[result["stages"][-1]] == "done"
            count[1] += 1
        rows += [[row, plan["variant"], f"{done} of {all}"] for row, (done, all) in counts.items()]
    done = sum(state == "done" for state in states.values())
    lines = [table(["row", "variant", "finished"], rows) if rows else "no plan was run here yet"]
    lines += [f"{name}: {state}" for name, state in states.items() if state not in ("done", "")]
    lines.append(f"{done} of {len(states)} stages are finished")
    return "\n".join(lines)


def _state(study: StudyFolder, name: str) -> str:
    """done, who runs it, why it failed, or nothing."""
    run = study.run_of(name)
    if run.record_path.exists():
        return "done"
    who = holder(run.folder)
    if who is not None:
        return f"run by {who}"
    failure = failure_of(run)
    if failure.exists():
        return f"failed: {failure.read_text(encoding='utf-8').splitlines()[0]}"
    return ""
