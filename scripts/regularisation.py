"""Regularisers of the loss beside plain fine-tuning: scores, and how sure the answers are.

    python scripts/regularisation.py
    python scripts/regularisation.py --task cola --lr 7e-5 --data-dir real-data --seeds 3

A method may leave the score as it is and still make probabilities honest, so the table has the
development loss and the calibration error too. Copy it and change what is compared.
"""

from dataclasses import replace

from data.tasks import get_task
from multitask.commands.messages import Flat, run_script
from multitask.experiments.compare import Comparison
from multitask.extensions.anchor import Anchor
from multitask.extensions.class_weights import ClassWeights
from multitask.extensions.focal import Focal
from multitask.extensions.label_smoothing import LabelSmoothing
from multitask.extensions.rdrop import RDrop
from multitask.extensions.smart import Smart
from multitask.runs.run import Run


def main(common: Flat[Comparison], task: str = "sst", lr: float = 5e-5) -> None:
    """Train a task plainly, and with each regulariser.

    Args:
        common: what all runs have in common.
        task: sst, para, sts, cola or cfimdb; of sts, those that are about classes are left out.
        lr: learning rate of all.
    """
    methods = {
        "smart": Smart(),
        "smart, smoothness alone": Smart(proximal=0.0),
        "smart, proximal alone": Smart(weight=0.0),
        "rdrop": RDrop(),
        "anchor": Anchor(),
    }
    if get_task(task).kind != "regression":
        of_classes = (LabelSmoothing(), Focal(), ClassWeights())
        methods |= {extension.name.replace("_", " "): extension for extension in of_classes}
    plain = common.config(task, lr=lr)
    configs = {name: replace(plain, extensions=(own,)) for name, own in methods.items()}

    def loss(run: Run) -> str:
        return f"{run.record()['dev'][task]['loss']:.3f}"

    def calibration(run: Run) -> str:
        return f"{run.record()['analysis'][task].get('expected_calibration_error', 0):.3f}"

    columns = {"development loss": loss, "calibration error": calibration}
    common.show({"plain": plain, **configs}, columns)


if __name__ == "__main__":
    run_script(main)
