"""What an extension is: a frozen dataclass whose fields are its settings, with the hooks it needs.

    @register("bitfit")
    @dataclass(frozen=True, kw_only=True)
    class BitFit(Extension):
        def prepare(self, model): ...

The trainer calls each hook of every extension, in the order in which a config lists them. A hook
that is not overridden changes nothing.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from minbert.checks import convert_fields
from minbert.files import brief, checked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from data.tasks import Task
    from multitask.forward_pass import ForwardPass
    from multitask.settings import Settings
    from multitask.trained_model import TrainedModel


@dataclass(frozen=True, kw_only=True)
class Step:
    """What an extension may know of the optimizer step that comes."""

    number: int
    """Steps before it."""
    total: int
    """Steps of the whole run."""
    per_epoch: int
    """Steps of an epoch."""
    rows: Mapping[str, int]
    """Task -> its training rows."""
    seed: int
    """The run's seed: what is drawn must be a function of it and of `number`."""
    parameters: Mapping[str, nn.Parameter]
    """What the run trains, by name; gradients of tasks come in this order."""
    groups: Sequence[Mapping[str, Any]]
    """The optimizer's parameter groups: `names`, `params`, and the step's `lr`."""
    memory: dict[str, Any]
    """What extensions keep from step to step, JSON values under names of their own: it is saved
    with the run, for an extension itself has no state. Tensors go to `TrainedModel.kept`."""
    log: Callable[[dict[str, Any]], None]
    """Adds a line to metrics.jsonl, {"kind": ..., "step": number, ...}; tensors become numbers."""


TaskGradients = dict[str, list["Tensor | None"]]
"""Task -> the gradient of its loss, one tensor a trainable parameter, None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Extension:
    """Changes to the training, each hook on its own."""

    name: ClassVar[str]
    freezes: ClassVar[bool] = False
    """Whether `prepare` freezes the encoder but for what it adds or chooses."""
    exports: ClassVar[bool] = True
    """Whether `export` leaves an ordinary backbone; else it says why not."""
    between_tasks: ClassVar[bool] = False
    """Whether it is about several tasks; pre-training has one."""

    def __post_init__(self) -> None:
        convert_fields(self)

    def check(self, config: Settings) -> None:
        """Raise ValueError where the extension does not go with the rest of the config."""

    def prepare(self, model: TrainedModel) -> None:
        """Change the model before the optimizer is made: add adapters, freeze parameters."""

    def lr_scale(self, model: TrainedModel) -> Mapping[str, float]:
        """Parameter name -> factor of its learning rate; names left out keep theirs."""
        return {}

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        """Look at the model before its first step, on its device, and at the labels of each task's
        training rows, (rows,) or (rows, K).

        Called when a run is resumed too, on the model that it began with: what is put in
        `model.kept` here is then replaced by what was saved.
        """

    def begin(self, model: TrainedModel, config: Settings, *, progress: bool) -> None:
        """Prepare what takes long before a run's first step, with bars if `progress`.

        Not called when a run goes on from a checkpoint, which has what this put into the room that
        `start` made in `model.kept`.
        """

    def choose_tasks(self, step: Step) -> list[str] | None:
        """The tasks whose batches make this step, or None to leave the choice to others."""
        return None

    def begin_step(self, model: TrainedModel, step: Step) -> None:
        """Change the model before a step: freeze parameters, or let them learn again."""

    # The loss: see multitask/objective.py

    def losses(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        """The loss of each row (B,) in the place of the task's own, `losses`.

        Outputs (B, K) are of the rows that are seen, at first or once more, and the labels as in
        `row_losses`; one extension of a config may do that.
        """
        return losses

    def row_weights(self, labels: Tensor, task: Task, model: TrainedModel) -> Tensor | None:
        """Factors of the rows' losses (B,), or None for 1; those of several extensions multiply."""
        return None

    def penalty(self, seen: ForwardPass) -> Tensor | None:
        """What is added to the loss of each row (B,), or None; it may run the model again."""
        return None

    def weigh(self, loss: Tensor, share: Tensor, task: str, model: TrainedModel) -> Tensor:
        """The loss to minimise, from a batch's part of the mean loss over the step's rows.

        Parts add up to the mean over all batches (and processes) of a task's step, and their
        `share`s, of the step's rows, to 1. Called in the forward pass: see multitask/objective.py.
        """
        return loss

    def combine(self, gradients: TaskGradients, step: Step) -> TaskGradients:
        """Change the tasks' gradients before they are added up (gradient surgery)."""
        return gradients

    def stops(self, epoch: float, score: float, beside: Callable[[float], list[float]]) -> bool:
        """Whether the run ends after an epoch, with its best development score so far; `beside`
        gives what other runs in the same folder had reached by an epoch."""
        return False

    @property
    def chooses(self) -> bool:
        """Whether `choose_tasks` is overridden: one extension of a config may do that."""
        return type(self).choose_tasks is not Extension.choose_tasks

    @property
    def defines(self) -> bool:
        """Whether `losses` is overridden: one extension of a config may do that."""
        return type(self).losses is not Extension.losses

    @property
    def penalises(self) -> bool:
        """Whether `penalty` is overridden: only then may a batch go through the model again."""
        return type(self).penalty is not Extension.penalty

    @property
    def combines(self) -> bool:
        """Whether `combine` is overridden: only then are gradients kept apart by task."""
        return type(self).combine is not Extension.combine

    def export(self, model: TrainedModel) -> None:
        """Undo what `prepare` changed, in a model that is to be saved as an ordinary backbone."""


def check_classifies(config: Settings, name: str) -> None:
    """Raise ValueError where no task of a config has classes, for an extension about them."""
    if all(task.kind == "regression" for task in config.trained_tasks):
        raise ValueError(
            f"{name} is about classes, and {' and '.join(config.tasks)} have numbers for labels; "
            "leave it out, or name a task with classes"
        )


class Together(tuple[Extension, ...]):
    """A run's extensions as one: each hook calls theirs, one after the other."""

    @property
    def penalises(self) -> bool:
        """Whether one of them adds a penalty."""
        return any(extension.penalises for extension in self)

    @property
    def combines(self) -> bool:
        """Whether one of them combines gradients."""
        return any(extension.combines for extension in self)

    def lr_scale(self, model: TrainedModel) -> Mapping[str, float]:
        """As of an extension; factors of a parameter multiply."""
        scales: dict[str, float] = {}
        for extension in self:
            for name, scale in extension.lr_scale(model).items():
                scales[name] = scales.get(name, 1.0) * scale
        return scales

    def choose_tasks(self, step: Step) -> list[str] | None:
        """The first choice that one of them makes, or None."""
        choices = (extension.choose_tasks(step) for extension in self)
        return next((chosen for chosen in choices if chosen is not None), None)

    def start(self, model: TrainedModel, labels: Mapping[str, Tensor | None]) -> None:
        """As of an extension."""
        for extension in self:
            extension.start(model, labels)

    def begin(self, model: TrainedModel, config: Settings, *, progress: bool) -> None:
        """As of an extension."""
        for extension in self:
            extension.begin(model, config, progress=progress)

    def begin_step(self, model: TrainedModel, step: Step) -> None:
        """As of an extension."""
        for extension in self:
            extension.begin_step(model, step)

    def losses(self, losses: Tensor, outputs: Tensor, seen: ForwardPass) -> Tensor:
        """As of an extension."""
        for extension in self:
            losses = extension.losses(losses, outputs, seen)
        return losses

    def row_weights(self, labels: Tensor, task: Task, model: TrainedModel) -> Tensor | None:
        """The product of theirs, or None."""
        found = [extension.row_weights(labels, task, model) for extension in self]
        factors = [weights for weights in found if weights is not None]
        return math.prod(factors[1:], start=factors[0]) if factors else None

    def penalty(self, seen: ForwardPass) -> Tensor | None:
        """The sum of theirs, or None."""
        found = [extension.penalty(seen) for extension in self]
        parts = [penalty for penalty in found if penalty is not None]
        return sum(parts[1:], start=parts[0]) if parts else None

    def weigh(self, loss: Tensor, share: Tensor, task: str, model: TrainedModel) -> Tensor:
        """As of an extension."""
        for extension in self:
            loss = extension.weigh(loss, share, task, model)
        return loss

    def combine(self, gradients: TaskGradients, step: Step) -> TaskGradients:
        """As of an extension."""
        for extension in self:
            gradients = extension.combine(gradients, step)
        return gradients

    def stops(self, epoch: float, score: float, beside: Callable[[float], list[float]]) -> bool:
        """Whether one of them ends the run."""
        return any(extension.stops(epoch, score, beside) for extension in self)


X_ = TypeVar("X_", bound=type[Extension])
EXTENSIONS: dict[str, type[Extension]] = {}


def register(name: str) -> Callable[[X_], X_]:
    """Class decorator: make an extension known by name, for config.json."""

    def add(cls: X_) -> X_:
        known = EXTENSIONS.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"extension {cls.__qualname__} of {cls.__module__} is called {name!r}, as that of "
                f"{known.__module__} is; give it another name"
            )
        cls.name = name
        EXTENSIONS[name] = cls
        return cls

    return add


def load_extensions() -> dict[str, type[Extension]]:
    """All extensions by name: imports every file of this package, and with them torch."""
    package = importlib.import_module("multitask.extensions")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return EXTENSIONS


def origin_of(cls: type[Extension]) -> str | None:
    """MODULE:CLASS of an extension that does not come along with the library."""
    home = f"{__package__}."
    return None if cls.__module__.startswith(home) else f"{cls.__module__}:{cls.__qualname__}"


def import_extension(origin: str) -> type[Extension]:
    """The extension that MODULE:CLASS names, by importing the module, which runs it.

    A class without a name of its own, `@register("name")`, is called as the class is.

    Raises:
        ValueError: there is no such module or class, or its name is taken.
    """
    module, _, name = origin.partition(":")
    load_extensions()  # first, for their names are theirs
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{origin} cannot be imported ({brief(error)}); install its package, or put its folder "
            f"on PYTHONPATH; minbert train --resume takes --use FILE.py:CLASS too"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Extension)):
        raise ValueError(f"{origin} is {brief(found)}, and no class of extensions")
    if "name" not in vars(found):
        register(found.__name__.lower())(found)
    return found


def extension_to_dict(extension: Extension) -> dict[str, Any]:
    """An extension as JSON values; `from` says where one is that does not come along."""
    origin = origin_of(type(extension))
    values = {"name": extension.name, **asdict(extension)}
    return {**values, "from": origin} if origin else values


def extension_from_dict(values: Mapping[str, Any]) -> Extension:
    """The extension that `extension_to_dict` gave."""
    settings = dict(checked(values, dict[str, Any]))
    name, origin, known = settings.pop("name", None), settings.pop("from", None), load_extensions()
    if origin is not None and name not in known:
        known = {name: import_extension(checked(origin, str, name="from"))}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"no extension is called {brief(name)}; known are {sorted(known)}")
    return checked(settings, known[name], f"extension {name}")
