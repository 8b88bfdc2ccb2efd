"""Does it help to learn a task's language before the task?

    python scripts/further_pretraining.py --data-dir real-data

Pre-trains the backbone further on a task's own text, as a masked language model (Gururangan et al.,
2020, arXiv:2004.10964), fine-tunes from it, and fine-tunes from the backbone as it was, too. Copy
it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace
from pathlib import Path

from multitask import PretrainConfig, TrainConfig, train
from multitask.commands.messages import run_script
from multitask.experiments.compare import compare


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
        data_dir: folder with the task's files; by default the small data that comes along.
        task: its text is learnt first, its labels then.
        backbone: minilm, a folder, or a hub name.
        mlm_epochs: passes over the text.
        epochs: passes over the labelled rows.
        out: folder of the three runs.
    """
    pretraining = PretrainConfig(
        tasks=(task,),
        data_dir=data_dir,
        backbone=backbone,
        epochs=mlm_epochs,
        lr=1e-4,
        on_bad_row="skip",
        evaluate_first=True,
        out=out / "mlm",
        overwrite=True,
    )
    learnt = train(pretraining)
    record = learnt.record()
    before, after = (record[when]["mlm"]["perplexity"] for when in ("before", "dev"))
    print(
        f"\nperplexity of held-out text: {before:.1f} before, {after:.1f} after "
        f"{record['seconds']:.0f} s of pre-training\n"
    )
    plain = TrainConfig(
        tasks=(task,), data_dir=data_dir, backbone=backbone, epochs=epochs, on_bad_row="skip"
    )
    configs = {
        "plain": plain,
        "further pre-trained": replace(plain, backbone=str(learnt.backbone)),
    }
    print(compare(configs, out))


if __name__ == "__main__":
    run_script(main)
