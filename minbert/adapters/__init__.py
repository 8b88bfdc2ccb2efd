"""Parameter-efficient fine-tuning of any encoder: few parameters beside a frozen backbone.

    add_lora(encoder, LoRASettings(rank=8, targets=("query", "value")), name="first")
    ...                                         # train what requires a gradient
    save_adapter(folder, encoder, name="first")          # in the files of peft
    load_adapter(other_folder, encoder, name="second")   # those of peft too
    use_adapter(encoder, "first")               # or None: the backbone alone
    merge(encoder), unmerge(encoder), merge_and_remove(encoder)

layers.py has the formulas, apply.py puts them where an encoder's ROLES say, adapter_files.py writes
and reads them.

Others stand beside whole blocks, and tasks may have sets of their own: bottleneck.py, pal.py,
prefix.py.

    add_bottlenecks(encoder, BottleneckSettings(kind="houlsby"), tasks=("sst", "para"))
    with encoder.choice.of("sst"):
        encoder(input_ids)
"""

from minbert.adapters.adapter_files import ADAPTER_FILES, load_adapter, save_adapter
from minbert.adapters.apply import (
    IA3Settings,
    LoRASettings,
    adapter_names,
    add_ia3,
    add_lora,
    merge,
    merge_and_remove,
    train_biases,
    unmerge,
    use_adapter,
)
from minbert.adapters.bottleneck import BottleneckSettings, add_bottlenecks
from minbert.adapters.layers import IA3, Adapted, LoRAEmbedding, LoRALinear, Whole
from minbert.adapters.pal import PalSettings, add_pals
from minbert.adapters.prefix import PrefixSettings, add_prefixes

__all__ = [
    "ADAPTER_FILES",
    "IA3",
    "Adapted",
    "BottleneckSettings",
    "IA3Settings",
    "LoRAEmbedding",
    "LoRALinear",
    "LoRASettings",
    "PalSettings",
    "PrefixSettings",
    "Whole",
    "adapter_names",
    "add_bottlenecks",
    "add_ia3",
    "add_lora",
    "add_pals",
    "add_prefixes",
    "load_adapter",
    "merge",
    "merge_and_remove",
    "save_adapter",
    "train_biases",
    "unmerge",
    "use_adapter",
]
