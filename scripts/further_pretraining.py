"""Does it help to learn a task's language before the task?

    python scripts/further_pretraining.py --data-dir real-data

Pre-trains the backbone further on a task's own text, as a masked language model (Gururangan et al.,
2020, arXiv:2004.10964), fine-tunes from it, and fine-tunes from the backbone as it was, too.
"""

from dataclasses import replace
from pathlib import Path

import tyro

from multitask import PretrainConfig, TrainConfig, train
from multitask.console import table


def main(
    data_dir: Path | None = None,
    task: str = "sst",
    backbone: str = "minilm",
    mlm_epochs: int = 3,
    epochs: int = 3,
    out: Path = Path("runs/further-pretraining"),
) -> None:
    """Compare fine-tuning with and without further pre-training.

    Args:
        data_dir: folder with the task's files; by default the project's small data.
        task: its text is learnt first, its labels then.
        backbone: minilm, a folder or a hub name.
        mlm_epochs: passes over the text.
        epochs: passes over the labelled rows.
        out: folder for the three runs.
    """
    print(f"Three runs under {out}: {epochs} epochs of {task} from {backbone}; {mlm_epochs} epochs "
          f"of masked language modelling on the text of {task}; {epochs} epochs of {task} from its "
          "result.")  # fmt: skip
    pretraining = PretrainConfig(
        tasks=(task,), data_dir=data_dir, backbone=backbone, epochs=mlm_epochs, lr=1e-4,
        evaluate_first=True, out=out / "mlm", overwrite=True,
    )  # fmt: skip
    plain = TrainConfig(
        tasks=(task,), data_dir=data_dir, backbone=backbone, epochs=epochs,
        out=out / "plain", overwrite=True,
    )  # fmt: skip
    learnt = train(pretraining)
    further = replace(plain, backbone=str(learnt.backbone), out=out / "further")
    rows = []
    for name, config in (("plain", plain), ("further pre-trained", further)):
        record = train(config).record()
        rows.append([name, f"{record['score']:.3f}", f"{record['seconds']:.0f}"])

    record = learnt.record()
    before, after = (record[when]["mlm"]["perplexity"] for when in ("before", "dev"))
    print(f"\nperplexity of held-out text: {before:.1f} before, {after:.1f} after "
          f"{record['seconds']:.0f} s of pre-training\n")  # fmt: skip
    print(table(["fine-tuning", f"{task} score", "seconds"], rows))


if __name__ == "__main__":
    tyro.cli(main)
