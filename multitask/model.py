"""The models that are trained: an encoder with what stands on it.

MultitaskModel         Batch -> encoder -> pooled features (B, F) -> task's head -> outputs (B, K)
MaskedLanguageModel    Batch -> encoder -> masked tokens (M, H) -> decoder -> outputs (M, V)
EmbeddingModel         Batch -> encoder -> pooled embeddings (B, C, H) of each row's C texts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from data.batching import Batch
from data.tasks import COSINES, MLM, NEIGHBOURS, Task, get_task
from minbert.adapters import load_adapter
from minbert.encoder import Encoder, EncoderOutput
from minbert.loading import Backbone
from minbert.per_task import PerTask
from multitask.config import ContrastConfig, PretrainConfig, TrainConfig
from multitask.contrastive import ContrastiveLoss
from multitask.heads import POOLINGS, Heads, compare_concat, compare_cosine, pair_kinds
from multitask.learnt_pooling import LEARNT, LayerMix
from multitask.linear_head import LinearHeads
from multitask.settings import Settings
from multitask.trained_model import TrainedModel


class MultitaskModel(TrainedModel):
    """A shared encoder with a head for each task."""

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        *,
        head: str = "shared",
        pooling: str = "pooler",
        pair: str = "cross",
        pair_of: Mapping[str, str] = MappingProxyType({}),
        layer_mix: bool = False,
        head_size: int = 256,
        head_layers: int = 1,
        head_activation: str = "gelu",
        head_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if head == "linear" and not encoder.has_pooler:
            pooling = "cls"  # ConvBERT's head has a layer in the place of a pooler
        self.encoder = encoder
        kinds = pair_kinds(tasks, pair, pair_of)
        ways = {"concat": compare_concat, "cosine": compare_cosine}
        self.compare = {name: ways[kind] for name, kind in kinds.items() if kind in ways}
        if head == "linear":
            self.heads = LinearHeads(tasks, encoder, dropout=head_dropout)
        else:
            self.heads = Heads(
                tasks,
                encoder.config.hidden_size,
                pair=pair,
                pair_of=pair_of,
                head_size=head_size,
                layers=head_layers,
                activation=head_activation,
                dropout=head_dropout,
            )
        self.tasks = self.heads.tasks
        if pooling not in (*POOLINGS, *LEARNT):
            known = ", ".join([*POOLINGS, *LEARNT])
            raise ValueError(f"no pooling is called {pooling!r}; known are {known}")
        self.pooling = POOLINGS.get(pooling, self._by_query)
        if pooling in LEARNT:
            make = LEARNT[pooling]
            queries = {name: make(encoder.config.hidden_size) for name in self.tasks}
            self.heads.add_module("pooling", PerTask(encoder.choice, queries))
        self.mixes_layers = layer_mix
        if layer_mix:
            states = encoder.config.num_layers + 1
            mixes = {name: LayerMix(states) for name in self.tasks}
            self.heads.add_module("layer_mix", PerTask(encoder.choice, mixes))

    def _by_query(self, output: EncoderOutput) -> Tensor:
        """A learnt pooling, which each task has for itself."""
        return self.heads.get_submodule("pooling")(output)

    @classmethod
    def from_config(cls, config: TrainConfig, encoder: Encoder) -> MultitaskModel:
        """The model of a training config, before its extensions prepare it.

        The heads' initial values depend on config.seed alone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = cls(
                encoder,
                [get_task(name) for name in config.tasks],
                head=config.head,
                pooling=config.pooling,
                pair=config.pair,
                pair_of=config.pair_of,
                layer_mix=config.layer_mix,
                head_size=config.head_size,
                head_layers=config.head_layers,
                head_activation=config.head_activation,
                head_dropout=config.head_dropout,
            )
            set_up(encoder, config)
            if config.frozen:
                encoder.requires_grad_(False)
            if config.adapter is not None:
                model.left_out = tuple(load_adapter(config.adapter, encoder))
            for extension in config.extensions:
                extension.prepare(model)
        trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
        if config.frozen and trained:
            raise ValueError(
                f"the encoder is to be frozen, yet {trained[0]} and {len(trained) - 1} others "
                "train; leave out --frozen"
            )
        return model

    def features(self, batch: Batch, task: str) -> Tensor:
        """Pooled vectors of a batch of rows, (B, H); for two embeddings compared, (B, 3 H | 1)."""
        if batch.features is not None:
            return batch.features
        output = self.encoder(
            batch.input_ids,
            token_type_ids=batch.token_type_ids,
            layout=batch.layout,
            output_hidden_states=self.mixes_layers,
        )
        return self.pooled(self.mixed(output), task)

    def pooled(self, output: EncoderOutput, task: str) -> Tensor:
        """The same of an encoder's output whose layers have been mixed."""
        pooled = self.pooling(output)
        if task in self.compare:
            first, second = pooled.chunk(2)  # a batch holds all first texts, then all second
            return self.compare[task](first, second)
        return pooled

    def mixed(self, output: EncoderOutput) -> EncoderOutput:
        """The encoder's output with the task's own mix of layers in place of the last one, where
        layers are mixed."""
        return self.heads.get_submodule("layer_mix")(output) if self.mixes_layers else output

    def forward(self, batch: Batch, task: str) -> Tensor:
        """Outputs (B, K) of a task's head for a batch of its rows."""
        with self.encoder.choice.of(task):
            return self.heads(self.features(batch, task), task)


class MaskedLanguageModel(TrainedModel):
    """An encoder with its masked-language-model head, which is its own task "mlm"."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({MLM.name: head})
        self.tasks = {MLM.name: MLM}

    @classmethod
    def from_config(cls, config: PretrainConfig, backbone: Backbone) -> MaskedLanguageModel:
        """The model of a pre-training config, after its extensions have prepared it.

        Raises:
            ValueError: an extension adds parameters, which an ordinary backbone cannot hold.
        """
        assert backbone.mlm_head is not None
        model = cls(backbone.encoder, backbone.mlm_head)
        set_up(model.encoder, config)
        names = [name for name, _ in model.named_parameters()]
        for extension in config.extensions:
            extension.prepare(model)
            if [name for name, _ in model.named_parameters()] != names:
                raise ValueError(
                    f"extension {extension.name} changes which parameters the encoder has, and "
                    "pre-training makes an ordinary backbone; leave the extension out"
                )
        return model

    def parts(self) -> list[nn.Module]:
        """As above, but for what the head is tied to, which stays whole during a step."""
        tied = set(self.heads.parameters())
        return [part for part in super().parts() if tied.isdisjoint(part.parameters())]

    def forward(self, batch: Batch, task: str = MLM.name) -> Tensor:
        """Scores (M, V) over the vocabulary for the batch's masked tokens, and for no other."""
        output = self.encoder(
            batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout
        )
        tokens = output.last_hidden_state.flatten(0, -2)  # (B * S or T, H)
        return self.heads.get_submodule(task)(tokens.index_select(0, batch.masked))  # (M, V)


class EmbeddingModel(TrainedModel):
    """An encoder whose embeddings are compared: what contrastive stages train."""

    def __init__(self, encoder: Encoder, *, pooling: str, loss: ContrastiveLoss) -> None:
        """Take an encoder as it is.

        Args:
            encoder: what is trained.
            pooling: what stands for a text.
            loss: of its embeddings.
        """
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict()
        self.tasks = {task.name: task for task in (COSINES, NEIGHBOURS)}  # by one it is scored
        self.pooling = POOLINGS[pooling]
        self.loss = loss

    @classmethod
    def from_config(cls, config: ContrastConfig, encoder: Encoder) -> EmbeddingModel:
        """The model of a contrastive stage, after its extensions have prepared it.

        Raises:
            ValueError: dropout is what tells the embeddings of a text apart, and there is none.
        """
        rows = config.batch_size * config.accumulate
        loss = ContrastiveLoss(config.objective, config.temperature, config.margin, rows)
        model = cls(encoder, pooling=config.pooling, loss=loss)
        set_up(model.encoder, config)
        with torch.random.fork_rng(devices=[]):  # for the first values of adapters
            torch.default_generator.manual_seed(config.seed)
            for extension in config.extensions:
                extension.prepare(model)
        rates = [module.p for module in encoder.modules() if isinstance(module, nn.Dropout)]
        if config.objective == "simcse" and not any(rates):
            raise ValueError(
                f"backbone {config.backbone} has no dropout, which is all that tells the two "
                "embeddings of a text apart; give some: --encoder-dropout 0.1"
            )
        return model

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def forward(self, batch: Batch, task: str) -> Tensor:
        """Embeddings (B, C, H), as long as they come."""
        assert batch.groups is not None
        output = self.encoder(
            batch.input_ids, token_type_ids=batch.token_type_ids, layout=batch.layout
        )
        pooled = self.pooling(output)  # (C B, H): all first texts, then all second ones
        return pooled.unflatten(0, (batch.groups.size(1), -1)).transpose(0, 1)


def set_up(encoder: Encoder, config: Settings) -> None:
    """Give an encoder the dropout and the checkpointing that the settings want."""
    if config.encoder_dropout is not None:
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.encoder_dropout
    encoder.gradient_checkpointing = config.gradient_checkpointing
