"""Does it help to learn a task's language before the task?

    python scripts/further_pretraining.py --data-dir real-data

Pre-trains the backbone further on a task's own text, as a masked language model (Gururangan et al.,
2020, arXiv:2004.10964), fine-tunes from it, and fine-tunes from the backbone as it was, too. Copy
it and change what is compared: each config is a run of its own.
"""

from dataclasses import replace

from multitask import PretrainConfig
from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.runs.run import Run


def main(common: Flat[Comparison], task: str = "sst", mlm_epochs: int = 3) -> None:
    """Compare fine-tuning with and without further pre-training.

    Args:
        common: what all runs have in common.
        task: its text is learnt first, its labels then.
        mlm_epochs: passes over the text.
    """
    plain = common.config(task, pooling="pooler")
    pretraining = PretrainConfig(
        tasks=(task,),
        data_dir=common.data_dir,
        backbone=common.backbone,
        epochs=mlm_epochs,
        lr=1e-4,
        limit=common.limit,
        device=common.device,
        on_bad_row="skip",
        evaluate_first=True,
        out=common.folder / "mlm",
    )
    configs = {
        "pre-training": pretraining,
        "plain": plain,
        "further pre-trained": replace(plain, backbone=str(common.folder / "mlm" / "backbone")),
    }

    def perplexities(run: Run) -> str:
        record = run.record()
        if "mlm" not in record["dev"]:
            return "-"
        before, after = (record[when]["mlm"]["perplexity"] for when in ("before", "dev"))
        return f"{before:.1f}, {after:.1f}"

    common.show(configs, {"perplexity of held-out text before, after": perplexities})


if __name__ == "__main__":
    run_script(main)
